import { useSyncExternalStore } from 'react'
import type { ThemeChoice } from '@/features/settings/settings-page'

// public/theme.js reads the same key before the first paint.
const key = 'crewbeat.theme'
const system = matchMedia('(prefers-color-scheme: dark)')
const watchers = new Set<() => void>()

function read(): ThemeChoice {
  try {
    const kept = localStorage.getItem(key)
    return kept === 'light' || kept === 'dark' ? kept : 'system'
  } catch {
    return 'system'
  }
}

let choice = read()

function apply() {
  const dark = choice === 'dark' || (choice === 'system' && system.matches)
  document.documentElement.dataset.theme = dark ? 'dark' : 'light'
  for (const w of watchers) w()
}

/** Chooses light or dark, or follows the system. */
export function setTheme(next: ThemeChoice): void {
  choice = next
  try {
    if (next === 'system') localStorage.removeItem(key)
    else localStorage.setItem(key, next)
  } catch {
    // Storage is blocked: it holds for this page.
  }
  apply()
}

/** Follows the system and other windows from now on. */
export function watchTheme(): void {
  system.addEventListener('change', apply)
  addEventListener('storage', (e) => {
    if (e.key !== key) return
    choice = read()
    apply()
  })
  apply()
}

/** What is chosen. */
export function useTheme(): ThemeChoice {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher)
      return () => {
        watchers.delete(watcher)
      }
    },
    () => choice,
  )
}
