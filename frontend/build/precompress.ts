/** Writes `.br` and `.gz` variants of files that get smaller by it, so that the server need not compress. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { gzipSync } from 'fflate';
import type { Plugin } from 'vite';

const COMPRESSIBLE = /\.(css|html|js|json|svg|txt|webmanifest)$/;

/** Smaller files fit into one packet anyway. */
const WORTH_IT = 512;

/** Uses a library, because the output of zlib depends on the build of Node.js. */
function gzip(content: Uint8Array): Uint8Array {
  return gzipSync(content, { level: 9, mtime: 0 });
}

function brotli(content: Buffer): Buffer {
  return brotliCompressSync(content, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
    },
  });
}

/** The plugin. It runs last, after the service worker has been written. */
export function precompress(): Plugin {
  let directory = '';
  return {
    name: 'precompress',
    apply: 'build',
    configResolved(config) {
      directory = resolve(config.root, config.build.outDir);
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
