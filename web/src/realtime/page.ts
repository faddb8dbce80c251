import type { Listener, Live, OnPeople, Status } from './live'
import type { Port, ToPage, ToWorker } from './messages'
import { Seen } from './seen'
import type { Event } from './protocol'

/** A worker that is shared, as a page sees it. */
export type SharedEnd = {
  port: Port<ToPage, ToWorker>
  /** Called if the worker cannot be loaded or started. */
  onerror: ((e: unknown) => void) | null
}

export type PageOptions = {
  /** The worker; throws, or returns undefined, where there is none to be had. */
  share: () => SharedEnd | undefined
  /** A connection of the page's own. */
  alone: () => Live
  /** Takes the lock and keeps it as long as the page lives; resolves once it is held. */
  hold?: ((lock: string) => Promise<void>) | undefined
}

type Followed = { channel: string; /** has been asked for before */ begun?: boolean } & (
  { since: string | undefined; listener: Listener } | { onPeople: OnPeople }
)

/** How long the worker may take to answer for the first time. */
const patience = 4000
const heartbeat = 10_000
const idle: Status = { phase: 'idle', degraded: false, failures: 0 }

/**
 * The live updates of a page: over the worker that it shares with the other
 * pages of the browser, or else over a connection of its own. When the worker
 * fails, or takes the page for gone, everything goes on from where it stood.
 */
export class PageLive implements Live {
  readonly #options: PageOptions
  readonly #followed = new Map<number, Followed>()
  readonly #stops = new Map<number, () => void>()
  readonly #watchers = new Set<() => void>()
  readonly #shown = new Seen()
  readonly #onShown = new Set<(event: Event) => void>()
  #status = idle
  #user: string | undefined
  #n = 0
  #end: SharedEnd | undefined
  #own: Live | undefined
  #answered = false
  /** Until the worker has been greeted, nothing else is said: it is told all at once. */
  #ready = false
  #missed = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #beat: ReturnType<typeof setInterval> | undefined

  constructor(options: PageOptions) {
    this.#options = options
    this.#join()
  }

  /** Whether the connection is shared with other pages. */
  get shared(): boolean {
    return this.#end !== undefined
  }

  status = (): Status => this.#status

  watch = (watcher: () => void): (() => void) => {
    this.#watchers.add(watcher)
    return () => {
      this.#watchers.delete(watcher)
    }
  }

  /** Calls f with each event, once, after the listeners. */
  onShown(f: (event: Event) => void): void {
    this.#onShown.add(f)
  }

  start(user: string): void {
    this.#user = user
    if (this.#end && this.#status.phase === 'ended') {
      this.#resume()
      return
    }
    if (this.#status.phase === 'idle' || this.#status.phase === 'ended') this.#set({ phase: 'connecting', degraded: false, failures: 0 })
    if (this.#own) this.#own.start(user)
    else this.#say({ kind: 'start', user })
  }

  stop(): void {
    this.#quit({ kind: 'stop' })
    this.#own?.stop()
  }

  end(): void {
    this.#quit({ kind: 'end' })
    this.#own?.end()
  }

  #quit(message: ToWorker) {
    this.#user = undefined
    for (const f of this.#followed.values()) if ('listener' in f) f.since = undefined
    this.#say(message)
    this.#set(idle)
  }

  nudge(): void {
    this.#own?.nudge()
    // Ended for all, it is begun anew by who wants it.
    if (this.#end && this.#status.phase === 'ended' && this.#user !== undefined) this.#resume()
    this.#say({ kind: 'nudge' })
  }

  follow(channel: string, since: string | undefined, listener: Listener): () => void {
    return this.#take({ channel, since, listener })
  }

  people(channel: string, onPeople: OnPeople): () => void {
    return this.#take({ channel, onPeople })
  }

  /** The page was put away whole by the browser, and is back: what was missed is not known. */
  revive(): void {
    if (!this.#end) return
    for (const f of this.#followed.values()) if ('listener' in f) f.since = undefined
    this.#join()
  }

  /** The page goes away. */
  leave(): void {
    this.#say({ kind: 'bye' })
  }

  #take(f: Followed): () => void {
    const n = ++this.#n
    this.#followed.set(n, f)
    this.#begin(n, f)
    return () => {
      this.#followed.delete(n)
      this.#stops.get(n)?.()
      this.#stops.delete(n)
      this.#say({ kind: 'leave', n })
    }
  }

  #begin(n: number, f: Followed) {
    const own = this.#own
    const gap = f.begun && 'listener' in f && f.since === undefined
    f.begun ||= own !== undefined || this.#ready
    if (!own) {
      if ('listener' in f) this.#say({ kind: 'follow', n, channel: f.channel, since: f.since })
      else this.#say({ kind: 'people', n, channel: f.channel })
      if (gap) f.listener.onReset()
      return
    }
    const listener = { onEvent: (e: Event) => this.#deliver(n, e), onReset: () => this.#reset(n) }
    this.#stops.set(n, 'listener' in f ? own.follow(f.channel, f.since, listener) : own.people(f.channel, f.onPeople))
    if (gap) f.listener.onReset()
  }

  #deliver(n: number, event: Event) {
    const f = this.#followed.get(n)
    if (!f || !('listener' in f)) return
    if (event.class !== 'ephemeral') f.since = event.offset
    f.listener.onEvent(event)
    if (this.#shown.first(`${event.channel} ${event.id}`)) for (const f of this.#onShown) f(event)
  }

  #reset(n: number) {
    const f = this.#followed.get(n)
    if (!f || !('listener' in f)) return
    // What is loaded now is newer than any position here. Should the worker fail before the next event, it is loaded once more.
    f.since = undefined
    f.listener.onReset()
  }

  /** Gets hold of the worker, and tells it all it has to know. */
  #join() {
    clearTimeout(this.#timer)
    clearInterval(this.#beat)
    this.#end?.port.postMessage({ kind: 'bye' })
    this.#end?.port.close()
    this.#answered = false
    this.#missed = 0
    try {
      this.#end = this.#options.share()
    } catch {
      this.#end = undefined
    }
    const end = this.#end
    if (!end) {
      this.#goAlone()
      return
    }
    end.onerror = () => this.#end === end && this.#goAlone()
    end.port.onmessage = ({ data }) => this.#end === end && this.#hear(data)
    this.#timer = setTimeout(() => this.#end === end && !this.#answered && this.#goAlone(), patience)
    this.#beat = setInterval(() => this.#pulse(), heartbeat)
    const hello = (lock?: string) => {
      if (this.#end !== end) return
      this.#ready = true
      this.#say({ kind: 'hello', ...(lock === undefined ? {} : { lock }) })
      this.#resume()
    }
    const { hold } = this.#options
    this.#ready = false
    if (!hold) {
      hello()
      return
    }
    const lock = `crewbeat-page-${crypto.randomUUID()}`
    hold(lock).then(
      () => hello(lock),
      () => hello(),
    )
  }

  /** Tells the worker everything: who is here, and what is followed from where. */
  #resume() {
    if (this.#user !== undefined) this.#say({ kind: 'start', user: this.#user })
    for (const [n, f] of this.#followed) this.#begin(n, f)
  }

  #say(message: ToWorker) {
    if (this.#end && this.#ready) this.#end.port.postMessage(message)
  }

  #hear(message: ToPage) {
    this.#answered = true
    this.#missed = 0
    switch (message.kind) {
      case 'status':
        if (this.#user !== undefined) this.#set(message.status)
        break
      case 'event':
        this.#deliver(message.n, message.event)
        break
      case 'reset':
        this.#reset(message.n)
        break
      case 'people': {
        const f = this.#followed.get(message.n)
        if (f && 'onPeople' in f) f.onPeople(message.people && new Set(message.people))
        break
      }
      case 'pong':
        break
      case 'unknown':
        this.#join()
        break
    }
  }

  /** Notices a worker that has died. */
  #pulse() {
    if (this.#answered && ++this.#missed > 3) {
      this.#join()
      return
    }
    this.#say({ kind: 'ping' })
  }

  #goAlone() {
    clearTimeout(this.#timer)
    clearInterval(this.#beat)
    this.#end?.port.postMessage({ kind: 'bye' })
    this.#end?.port.close()
    this.#end = undefined
    const own = this.#options.alone()
    this.#own = own
    own.watch(() => this.#set(own.status()))
    if (this.#user !== undefined) own.start(this.#user)
    for (const [n, f] of this.#followed) this.#begin(n, f)
  }

  #set(status: Status) {
    if (JSON.stringify(status) === JSON.stringify(this.#status)) return
    this.#status = status
    for (const watcher of [...this.#watchers]) watcher()
  }
}
