import { defineConfig, mergeConfig } from 'vitest/config'
import vite from './vite.config.ts'

export default mergeConfig(
  vite,
  defineConfig({
    test: {
      projects: [
        {
          extends: true,
          test: {
            name: 'unit',
            environment: 'jsdom',
            include: ['src/**/*.test.{ts,tsx}'],
            setupFiles: ['src/test/setup.ts'],
            restoreMocks: true,
          },
        },
        {
          // Drives the real binary and a real browser.
          test: {
            name: 'e2e',
            environment: 'node',
            include: ['e2e/**/*.e2e.ts'],
            testTimeout: 60_000,
            hookTimeout: 60_000,
            fileParallelism: false,
          },
        },
        {
          // Takes the pictures in docs/screens.
          test: {
            name: 'screens',
            environment: 'node',
            include: ['e2e/screens.ts'],
            testTimeout: 180_000,
            hookTimeout: 60_000,
          },
        },
      ],
    },
  }),
)
