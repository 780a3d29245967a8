import { svelte } from '@sveltejs/vite-plugin-svelte';
import { VitePWA } from 'vite-plugin-pwa';
import { defineConfig } from 'vitest/config';
import { precompress } from './build/precompress.ts';

/** The demo's shop; `DEMO=http://127.0.0.1:3411 npm run dev` for another address. */
const demo = process.env['DEMO'] ?? 'http://127.0.0.1:3000';
const proxy = {
  '/config.json': demo,
  '/demo': demo,
  '/cards.pdf': demo,
  '/products': demo,
  '/tickets': demo,
  '/ws': { target: demo, ws: true },
  '/e/': { target: demo, ws: true },
};

export default defineConfig({
  plugins: [
    svelte(),
    VitePWA({
      strategies: 'generateSW',
      // A page that reloads by itself could do so while somebody is about to pay, so ask first.
      registerType: 'prompt',
      // Registered by our own module, because the site's CSP forbids inline scripts.
      injectRegister: null,
      includeAssets: ['favicon.svg', 'apple-touch-icon.png'],
      manifest: {
        id: '/',
        name: 'lnplay.live',
        short_name: 'lnplay',
        description: 'Private Lightning networks by the hour, for meetups, classes and teams.',
        start_url: '/',
        scope: '/',
        display: 'standalone',
        background_color: '#0d211c',
        theme_color: '#0d211c',
        icons: [
          { src: '/icon.svg', sizes: 'any', type: 'image/svg+xml' },
          { src: '/icon-192.png', sizes: '192x192', type: 'image/png' },
          { src: '/icon-512.png', sizes: '512x512', type: 'image/png' },
          { src: '/icon-maskable-512.png', sizes: '512x512', type: 'image/png', purpose: 'maskable' },
        ],
      },
      workbox: {
        globPatterns: ['**/*.{js,css,html,woff2}'],
        navigateFallback: '/index.html',
        // The app's pages, as in `routes.ts`. Everything else, such as config.json, always comes from the network.
        navigateFallbackAllowlist: [/^\/$/, /^\/order$/, /^\/orders(\/|$)/, /^\/connect$/, /^\/guide(\/|$)/],
        cleanupOutdatedCaches: true,
        clientsClaim: false,
        skipWaiting: false,
        sourcemap: false,
        inlineWorkboxRuntime: true,
      },
    }),
    precompress(),
  ],
  build: {
    outDir: '../frontend-dist',
    emptyOutDir: true,
    target: 'es2022',
    // No data URLs, so that the site's CSP need not allow them.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        // Texts are named by language and area, as tests of what a page loads need to know.
        chunkFileNames: ({ facadeModuleId }) => {
          const text = /\/src\/text\/(\w+)\/(\w+)\.ts$/.exec(facadeModuleId ?? '');
          return text === null
            ? 'assets/[name]-[hash].js'
            : `assets/text-${text[1] ?? ''}-${text[2] ?? ''}-[hash].js`;
        },
      },
    },
  },
  worker: { format: 'es' },
  server: { proxy },
  preview: {
    proxy,
    // The CSP of the real server, so that violations show here.
    headers: {
      'Content-Security-Policy':
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
        "manifest-src 'self'; worker-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; " +
        "frame-ancestors 'none'",
      'Referrer-Policy': 'no-referrer',
    },
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node', setupFiles: ['src/text/english.setup.ts'] },
});
