import type { Status } from './live'
import type { Event } from './protocol'

/** What a page says to the worker. `n` numbers what it follows. */
export type ToWorker =
  | { kind: 'hello'; /** held by the page as long as it lives; missing where there are no locks */ lock?: string }
  | { kind: 'start'; user: string }
  | { kind: 'stop' }
  | { kind: 'end' }
  | { kind: 'nudge' }
  | { kind: 'follow'; n: number; channel: string; since: string | undefined }
  | { kind: 'people'; n: number; channel: string }
  | { kind: 'leave'; n: number }
  | { kind: 'ping' }
  | { kind: 'bye' }

/** What the worker says to a page. */
export type ToPage =
  | { kind: 'status'; status: Status }
  | { kind: 'event'; n: number; event: Event }
  | { kind: 'reset'; n: number }
  | { kind: 'people'; n: number; people: string[] | undefined }
  | { kind: 'pong' }
  /** the page was taken for gone, and is to begin anew */
  | { kind: 'unknown' }

/** The end of a MessagePort that this needs. */
export type Port<In, Out> = {
  onmessage: ((e: { data: In }) => void) | null
  postMessage: (message: Out) => void
  close: () => void
}
