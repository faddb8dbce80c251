import { fileURLToPath } from 'node:url'
import tailwindcss from '@tailwindcss/vite'
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// In development the page is served by Vite and everything else by a running
// `crewbeat serve`, named by CREWBEAT_URL.
const server = process.env.CREWBEAT_URL ?? 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [react(), tailwindcss()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  build: {
    // The binary embeds this folder.
    outDir: '../services/crewbeat/page/dist',
    emptyOutDir: true,
    // The page's policy allows no data: fonts or scripts, so nothing is inlined.
    assetsInlineLimit: 0,
    target: 'es2022',
    sourcemap: false,
    // One chunk paints the page; what it may weigh is held by e2e/size.e2e.ts.
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: {
      '/api': server,
      '/v1/traces': server,
      '/traces': server,
      '/rt': { target: server, ws: true },
    },
  },
})
