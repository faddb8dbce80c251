import type { AfterClose } from './close'
import type { Event } from './protocol'

/** How the page stands with the server's live updates. */
export type Status = {
  /** `waiting`: cut off, and trying again by itself. `ended`: no more tries until told. */
  phase: 'idle' | 'connecting' | 'open' | 'waiting' | 'ended'
  /** The server said that it is slower for now; nothing is lost. */
  degraded: boolean
  /** Why it ended. */
  ended?: Extract<AfterClose, { again: false }>['reason']
  /** Failed tries in a row. */
  failures: number
  /** WebSockets do not get through here; a stream does for one. */
  blocked?: true
}

export type Listener = {
  onEvent: (event: Event) => void
  /** What was missed cannot be replayed: load it again. */
  onReset: () => void
}

/** Called with the ids of the people who are here; undefined while that is not known. */
export type OnPeople = (people: ReadonlySet<string> | undefined) => void

/**
 * Live updates, over a connection of one's own or one that is shared.
 *
 * Guarantees: an event is handed to the listeners of its channel once and in
 * order; after a cut, everything since the last one follows, or `onReset` says
 * that it could not; it reconnects by itself unless the server said not to.
 *
 * Not guaranteed: that an event arrives at all before `onReset` asks to reload.
 */
export interface Live {
  /** The status; a new object whenever it changes. */
  status: () => Status
  /** Calls watcher after each change of the status. */
  watch: (watcher: () => void) => () => void
  /** Connects for somebody, and keeps connected until stop. */
  start: (user: string) => void
  /** Disconnects this page and forgets every position. */
  stop: () => void
  /** The person has signed out: the same for all pages that share the connection. */
  end: () => void
  /** Tries now instead of later, and finds out whether a connection still lives: the network or the person is back. */
  nudge: () => void
  /**
   * Follows a channel from a position, or from now. The returned function stops
   * following; the channel is left when nobody follows it any more.
   */
  follow: (channel: string, since: string | undefined, listener: Listener) => () => void
  /** Tells at once and then whenever it changes who is here in a team, while somebody follows its channel. */
  people: (channel: string, onPeople: OnPeople) => () => void
}
