import { type AfterClose, afterClose, backoff } from './close'
import { type Control, type Event, isEvent, parseFrame } from './protocol'
import { Seen } from './seen'

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
}

export type Listener = {
  onEvent: (event: Event) => void
  /** What was missed cannot be replayed: load it again. */
  onReset: () => void
}

type Channel = {
  listeners: Set<Listener>
  /** the last position known; undefined until the server or a REST answer told one */
  since: string | undefined
}

/** One connection, old or new: during a drain there are two. */
type Link = {
  ws: WebSocket
  greeted: boolean
  /** channels asked for and not yet confirmed */
  pending: Set<string>
  /** channels asked for on this link */
  asked: Set<string>
  watchdog: ReturnType<typeof setTimeout> | undefined
  quiet: number
}

export type Options = {
  url: () => string
  open?: (url: string) => WebSocket
  random?: () => number
}

/**
 * The page's one connection for live updates.
 *
 * Guarantees: an event is handed to the listeners of its channel once and in
 * order; after a cut, everything since the last one follows, or `onReset` says
 * that it could not; it reconnects by itself unless the server said not to.
 *
 * Not guaranteed: that an event arrives at all before `onReset` asks to reload.
 */
export class Realtime {
  readonly #options: Required<Options>
  readonly #channels = new Map<string, Channel>()
  readonly #seen = new Seen()
  readonly #watchers = new Set<() => void>()
  #status: Status = { phase: 'idle', degraded: false, failures: 0 }
  #link: Link | undefined
  #successor: Link | undefined
  #retry: ReturnType<typeof setTimeout> | undefined
  #handover: ReturnType<typeof setTimeout> | undefined
  #requests = 0

  /** Called after the listeners with each event; tracing puts itself here. */
  onShown: (event: Event) => void = () => undefined

  constructor(options: Options) {
    this.#options = { open: (url) => new WebSocket(url), random: Math.random, ...options }
  }

  /** The status; a new object whenever it changes. */
  status = (): Status => this.#status

  /** Calls watcher after each change of the status. */
  watch = (watcher: () => void): (() => void) => {
    this.#watchers.add(watcher)
    return () => {
      this.#watchers.delete(watcher)
    }
  }

  /** Connects, and keeps connected until stop. */
  start(): void {
    if (this.#status.phase === 'idle' || this.#status.phase === 'ended') this.#connect()
  }

  /** Disconnects and forgets every position: the next start is another person's. */
  stop(): void {
    clearTimeout(this.#retry)
    clearTimeout(this.#handover)
    for (const link of [this.#link, this.#successor]) if (link) this.#drop(link)
    this.#link = this.#successor = undefined
    for (const channel of this.#channels.values()) channel.since = undefined
    this.#set({ phase: 'idle', degraded: false, failures: 0 })
  }

  /** Tries now instead of later: the network is back, or the person asks for it. */
  nudge(): void {
    if (this.#status.phase === 'waiting' || this.#status.phase === 'ended') this.#connect()
  }

  /**
   * Follows a channel from a position, or from now. The returned function stops
   * following; the channel is left when nobody follows it any more.
   */
  follow(name: string, since: string | undefined, listener: Listener): () => void {
    let channel = this.#channels.get(name)
    if (!channel) {
      channel = { listeners: new Set(), since }
      this.#channels.set(name, channel)
    }
    channel.since ??= since
    channel.listeners.add(listener)
    for (const link of [this.#link, this.#successor]) {
      if (link?.greeted && !link.asked.has(name)) this.#subscribe(link, [name])
    }
    return () => {
      channel.listeners.delete(listener)
      // A moment later: a page that follows the same channel may be on its way in.
      setTimeout(() => this.#leave(name, channel), 1000)
    }
  }

  #leave(name: string, channel: Channel) {
    if (channel.listeners.size > 0 || this.#channels.get(name) !== channel) return
    this.#channels.delete(name)
    for (const link of [this.#link, this.#successor]) {
      if (link?.asked.delete(name)) this.#send(link, { type: 'unsubscribe', channels: [name] })
    }
  }

  #connect() {
    clearTimeout(this.#retry)
    this.#set({ ...this.#status, phase: 'connecting' })
    this.#link = this.#open()
  }

  #open(): Link {
    const ws = this.#options.open(this.#options.url())
    const link: Link = { ws, greeted: false, pending: new Set(), asked: new Set(), watchdog: undefined, quiet: 20_000 }
    ws.onmessage = (message: MessageEvent<unknown>) => {
      if (typeof message.data === 'string') this.#receive(link, message.data)
    }
    ws.onclose = (closed) => this.#closed(link, closed.code)
    this.#guard(link)
    return link
  }

  /** A connection on which nothing comes any more is as good as cut. */
  #guard(link: Link) {
    clearTimeout(link.watchdog)
    link.watchdog = setTimeout(() => {
      this.#drop(link)
      this.#closed(link, 1006)
    }, link.quiet)
  }

  #receive(link: Link, text: string) {
    this.#guard(link)
    const frame = parseFrame(text)
    if (!frame) return
    if (isEvent(frame)) this.#deliver(frame)
    else this.#control(link, frame)
  }

  #deliver(event: Event) {
    const channel = this.#channels.get(event.channel)
    if (!channel || !this.#seen.first(`${event.channel} ${event.id}`)) return
    channel.since = event.offset
    for (const listener of [...channel.listeners]) listener.onEvent(event)
    this.onShown(event)
  }

  #control(link: Link, frame: Control) {
    switch (frame.type) {
      case 'hello':
        link.greeted = true
        link.quiet = frame.ping_ms * 1.5 + 10_000
        this.#guard(link)
        if (link === this.#link) this.#set({ phase: 'open', degraded: this.#status.degraded, failures: 0 })
        this.#subscribe(link, [...this.#channels.keys()])
        this.#promote(link)
        break
      case 'subscribed': {
        const channel = this.#channels.get(frame.ch)
        // Where a position was given, what was missed is still to come.
        if (channel) channel.since ??= frame.offset
        link.pending.delete(frame.ch)
        this.#promote(link)
        break
      }
      case 'reset': {
        const channel = this.#channels.get(frame.ch)
        if (!channel) break
        channel.since = frame.offset || undefined
        link.pending.delete(frame.ch)
        for (const listener of [...channel.listeners]) listener.onReset()
        this.#promote(link)
        break
      }
      case 'ping':
        this.#send(link, { type: 'pong' })
        break
      case 'status':
        this.#set({ ...this.#status, degraded: frame.status === 'degraded' })
        break
      case 'drain':
        if (link === this.#link) this.#drain(frame.reconnect_after_ms)
        break
      case 'error':
        this.#refused(link, frame)
        break
    }
  }

  /** The server did not take a subscription: later if it said when, else not on this link. */
  #refused(link: Link, frame: Extract<Control, { type: 'error' }>) {
    if (frame.ch) link.pending.delete(frame.ch)
    else link.pending.clear()
    this.#promote(link)
    // No right to it (any more): what the page shows of it is asked for again, and refused there.
    if (frame.code === 'forbidden') for (const listener of [...(this.#channels.get(frame.ch)?.listeners ?? [])]) listener.onReset()
    if (frame.ch && frame.retry_after_ms > 0) {
      setTimeout(() => {
        if (this.#channels.has(frame.ch) && this.#link === link) this.#subscribe(link, [frame.ch])
      }, frame.retry_after_ms)
    }
  }

  #subscribe(link: Link, names: string[]) {
    if (names.length === 0) return
    for (const name of names) {
      link.asked.add(name)
      link.pending.add(name)
    }
    this.#send(link, {
      type: 'subscribe',
      id: String(++this.#requests),
      channels: names.map((ch) => {
        const since = this.#channels.get(ch)?.since
        return since === undefined ? { ch } : { ch, since }
      }),
    })
  }

  /** The server is going away: be on another one before this one is gone. */
  #drain(after: number) {
    if (this.#successor || this.#handover) return
    this.#handover = setTimeout(() => {
      this.#handover = undefined
      this.#successor = this.#open()
    }, after)
  }

  /** The new connection has caught up with everything: let go of the old one. */
  #promote(link: Link) {
    if (link !== this.#successor || !link.greeted || link.pending.size > 0) return
    const old = this.#link
    this.#link = link
    this.#successor = undefined
    if (old) this.#drop(old)
    this.#set({ ...this.#status, phase: 'open', failures: 0 })
  }

  #closed(link: Link, code: number) {
    clearTimeout(link.watchdog)
    if (link === this.#successor) {
      // The old one still stands; when it falls, the usual way back begins.
      this.#successor = undefined
      if (!this.#link) this.#wait(code)
      return
    }
    if (link !== this.#link) return
    this.#link = undefined
    clearTimeout(this.#handover)
    this.#handover = undefined
    if (this.#successor) {
      this.#link = this.#successor
      this.#successor = undefined
      this.#set({ ...this.#status, phase: this.#link.greeted ? 'open' : 'connecting' })
      return
    }
    this.#wait(code)
  }

  #wait(code: number) {
    const next = afterClose(code)
    if (!next.again) {
      this.#set({ phase: 'ended', ended: next.reason, degraded: false, failures: this.#status.failures })
      return
    }
    const failures = Math.max(this.#status.failures, next.failures)
    this.#set({ phase: 'waiting', degraded: this.#status.degraded, failures: failures + 1 })
    this.#retry = setTimeout(() => this.#connect(), backoff(failures, this.#options.random))
  }

  #send(link: Link, frame: object) {
    if (link.ws.readyState === 1) link.ws.send(JSON.stringify(frame))
  }

  #drop(link: Link) {
    clearTimeout(link.watchdog)
    link.ws.onmessage = link.ws.onclose = null
    link.ws.close(1000)
  }

  #set(status: Status) {
    const now = this.#status
    if (now.phase === status.phase && now.degraded === status.degraded && now.ended === status.ended && now.failures === status.failures)
      return
    this.#status = status
    for (const watcher of [...this.#watchers]) watcher()
  }
}
