import { CircleAlert, X } from 'lucide-react'
import { Toast as Radix } from 'radix-ui'
import { useSyncExternalStore } from 'react'
import { cx } from './cx'

/** A short message at the edge of the page, with at most one thing to do about it. */
export type Toast = {
  text: string
  tone?: 'calm' | 'bad'
  action?: { label: string; run: () => void }
  /** A later toast with the same key takes the place of this one. */
  key?: string
}

type Shown = Toast & { id: number }

let shown: readonly Shown[] = []
let nextId = 1
const watchers = new Set<() => void>()

function set(next: readonly Shown[]) {
  shown = next
  for (const w of watchers) w()
}

/** Shows a message. At most three are in sight; the oldest goes first. */
export function toast(t: Toast): void {
  const rest = t.key === undefined ? shown : shown.filter((s) => s.key !== t.key)
  set([...rest.slice(-2), { ...t, id: nextId++ }])
}

function dismiss(id: number) {
  set(shown.filter((s) => s.id !== id))
}

/** Takes every message away, for tests and on sign-out. */
export function clearToasts(): void {
  set([])
}

function subscribe(watcher: () => void) {
  watchers.add(watcher)
  return () => {
    watchers.delete(watcher)
  }
}

/** The place where messages appear; once in the page. */
export function Toasts() {
  const list = useSyncExternalStore(subscribe, () => shown)
  return (
    <Radix.Provider duration={7000} swipeDirection="down" label="Message">
      {list.map((t) => (
        <Radix.Root
          key={t.id}
          type="foreground"
          onOpenChange={(open) => !open && dismiss(t.id)}
          className="flex animate-rise items-center gap-2 rounded-2xl bg-ink py-1.5 pr-1.5 pl-4 text-bg shadow-float"
        >
          {t.tone === 'bad' && <CircleAlert aria-hidden="true" className="size-4.5 shrink-0" />}
          <Radix.Description className="flex-1 py-2 text-[0.9375rem] font-medium">{t.text}</Radix.Description>
          {t.action && (
            <Radix.Action
              altText={t.action.label}
              onClick={t.action.run}
              className={cx('min-h-11 rounded-xl px-3.5 text-[0.9375rem] font-bold underline-offset-4 hover:underline')}
            >
              {t.action.label}
            </Radix.Action>
          )}
          <Radix.Close
            aria-label="Dismiss"
            className="inline-flex size-11 items-center justify-center rounded-xl opacity-75 hover:opacity-100"
          >
            <X aria-hidden="true" className="size-4.5" />
          </Radix.Close>
        </Radix.Root>
      ))}
      <Radix.Viewport className="fixed inset-x-4 bottom-[calc(5.25rem+env(safe-area-inset-bottom))] z-[60] mx-auto grid max-w-md gap-2 outline-none lg:right-8 lg:bottom-8 lg:left-auto lg:mx-0 lg:w-96" />
    </Radix.Provider>
  )
}
