/** Writes `.br` and `.gz` beside each file that gets smaller by it, so that the server need not compress. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

const COMPRESSIBLE = /\.(css|html|js|json|svg|txt|webmanifest)$/;

/** Below this one packet holds the file anyway. */
const WORTH_IT = 512;

/** `gzip -9` with nothing of the machine in its header: no time, and 255, "unknown", for the system. */
function gzip(content: Buffer): Buffer {
  const packed = gzipSync(content, { level: 9 });
  packed[9] = 255;
  return packed;
}

function brotli(content: Buffer): Buffer {
  return brotliCompressSync(content, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
    },
  });
}

/** The plugin; it runs last, when the service worker has been written too. */
export function precompress(): Plugin {
  let directory = '';
  return {
    name: 'precompress',
    apply: 'build',
    configResolved(config) {
      directory = join(config.root, config.build.outDir);
    },
    closeBundle: {
      order: 'post',
      sequential: true,
      handler() {
        for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
          if (!COMPRESSIBLE.test(name)) continue;
          const content = readFileSync(join(directory, name));
          if (content.length < WORTH_IT) continue;
          for (const [suffix, packed] of [
            ['br', brotli(content)],
            ['gz', gzip(content)],
          ] as const) {
            if (packed.length < content.length) writeFileSync(join(directory, `${name}.${suffix}`), packed);
          }
        }
      },
    },
  };
}
