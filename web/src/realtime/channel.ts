import type { Listener } from './live'
import type { Event } from './protocol'

/** One who follows a channel. */
type Follower = {
  listener: Listener
  /** Stands at a position that is not known here: what comes is held until it is reached, or until it is plain that it will not be. */
  waits?: { since: string; held: Event[]; timer: ReturnType<typeof setTimeout> }
}

/** How many events a channel remembers, for those who follow it later from before. */
const remembered = 256
/** How long an event may be on its way to here after the answer of the API that knows of it. */
const patience = 1000

/**
 * A channel and those who follow it, each from where it stands: a page that was
 * loaded a moment ago stands elsewhere than one that has been there for hours.
 */
export class Channel {
  readonly #followers = new Set<Follower>()
  #since: string | undefined
  /** the last events, and the position before the first of them */
  #log: Event[] = []
  #before: string | undefined

  constructor(since: string | undefined) {
    this.#since = this.#before = since
  }

  /** The last position known; undefined until the server or an answer of the API told one. */
  get since(): string | undefined {
    return this.#since
  }

  get empty(): boolean {
    return this.#followers.size === 0
  }

  /** Where the channel stands, if that was not known. */
  confirm(offset: string): void {
    if (this.#since !== undefined) return
    this.#since = this.#before = offset
    for (const f of this.#followers) if (f.waits?.since === offset) this.#release(f, f.waits.held)
  }

  add(since: string | undefined, listener: Listener): () => void {
    const follower: Follower = { listener }
    if (this.empty && since !== undefined && this.#since === undefined) this.#since = this.#before = since
    if (since !== undefined && since !== this.#since) this.#place(follower, since)
    this.#followers.add(follower)
    return () => {
      clearTimeout(follower.waits?.timer)
      this.#followers.delete(follower)
    }
  }

  /** Hands out what has happened since, or holds what comes if nobody here knows what that was. */
  #place(follower: Follower, since: string) {
    const at = this.#log.findIndex((e) => e.offset === since)
    if (at >= 0 || since === this.#before) {
      for (const e of this.#log.slice(at + 1)) follower.listener.onEvent(e)
      return
    }
    const timer = setTimeout(() => {
      const held = follower.waits?.held ?? []
      follower.listener.onReset()
      this.#release(follower, held)
    }, patience)
    follower.waits = { since, held: [], timer }
  }

  #release(follower: Follower, events: Event[]) {
    clearTimeout(follower.waits?.timer)
    delete follower.waits
    for (const e of events) follower.listener.onEvent(e)
  }

  deliver(event: Event): void {
    // What is not kept by the server is no position to go on from.
    if (event.class !== 'ephemeral') {
      this.#since = event.offset
      this.#log.push(event)
      if (this.#log.length > remembered) this.#before = this.#log.shift()?.offset
    }
    for (const f of [...this.#followers]) {
      if (!f.waits) f.listener.onEvent(event)
      else if (f.waits.since === event.offset)
        this.#release(f, []) // all of it was in the answer
      else f.waits.held.push(event)
    }
  }

  /** What was missed cannot be had: everybody loads again, and goes on from offset. */
  reset(offset: string | undefined): void {
    this.forget(offset)
    for (const f of [...this.#followers]) {
      this.#release(f, [])
      f.listener.onReset()
    }
  }

  /** Everybody loads again; the channel stays where it is. */
  reload(): void {
    for (const f of [...this.#followers]) f.listener.onReset()
  }

  /** Forgets where it was. */
  forget(offset?: string): void {
    this.#since = this.#before = offset
    this.#log = []
  }
}
