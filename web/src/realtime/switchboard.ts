import type { Live, Status } from './live'
import type { Port, ToPage, ToWorker } from './messages'

export type PagePort = Port<ToWorker, ToPage>

/** A page that shares the connection. */
type Page = {
  port: PagePort
  /** has a person, whose connection it is */
  started: boolean
  /** what it follows, by its numbers: how to stop */
  following: Map<number, () => void>
  locked: boolean
  heard: number
}

export type Locks = Pick<LockManager, 'request'>

/** How long a page without a lock may be silent: timers of pages in the background come once a minute. */
const silence = 180_000

/** Brings one connection to all pages of a person in a browser. */
export class Switchboard {
  readonly #live: Live
  readonly #locks: Locks | undefined
  readonly #pages = new Map<PagePort, Page>()
  #user: string | undefined

  constructor(live: Live, locks: Locks | undefined) {
    this.#live = live
    this.#locks = locks
    live.watch(() => this.#tellStatus())
    setInterval(() => this.#sweep(), silence / 6)
  }

  /** How many pages there are. */
  get size(): number {
    return this.#pages.size
  }

  connect(port: PagePort): void {
    port.onmessage = ({ data }) => this.#hear(port, data)
  }

  #hear(port: PagePort, message: ToWorker) {
    if (message.kind === 'hello') {
      this.#welcome(port, message.lock)
      return
    }
    const page = this.#pages.get(port)
    if (!page) {
      if (message.kind !== 'bye') port.postMessage({ kind: 'unknown' })
      return
    }
    page.heard = Date.now()
    switch (message.kind) {
      case 'start':
        this.#start(page, message.user)
        break
      case 'stop':
        this.#stop(page)
        break
      case 'end':
        this.#end(page)
        break
      case 'nudge':
        this.#live.nudge()
        break
      case 'follow': {
        const { n, channel, since } = message
        page.following.get(n)?.()
        const stop = this.#live.follow(channel, since, {
          onEvent: (event) => port.postMessage({ kind: 'event', n, event }),
          onReset: () => port.postMessage({ kind: 'reset', n }),
        })
        page.following.set(n, stop)
        break
      }
      case 'people': {
        const { n, channel } = message
        page.following.get(n)?.()
        const tell = (people: ReadonlySet<string> | undefined) => port.postMessage({ kind: 'people', n, people: people && [...people] })
        page.following.set(n, this.#live.people(channel, tell))
        break
      }
      case 'leave':
        page.following.get(message.n)?.()
        page.following.delete(message.n)
        break
      case 'ping':
        port.postMessage({ kind: 'pong' })
        break
      case 'bye':
        this.#forget(port)
        break
    }
  }

  #welcome(port: PagePort, lock: string | undefined) {
    this.#forget(port)
    this.#pages.set(port, { port, started: false, following: new Map(), locked: lock !== undefined, heard: Date.now() })
    port.postMessage({ kind: 'pong' })
    // It is granted when the page is gone, however that came.
    if (lock !== undefined && this.#locks) void this.#locks.request(lock, () => this.#forget(port))
  }

  #start(page: Page, user: string) {
    if (this.#user !== undefined && this.#user !== user) this.#end(page)
    this.#user = user
    page.started = true
    this.#live.start(user)
    page.port.postMessage({ kind: 'status', status: this.#live.status() })
  }

  /** The page needs no connection any more. Without any that does, there is none. */
  #stop(page: Page) {
    page.started = false
    if ([...this.#pages.values()].some((p) => p.started)) return
    this.#user = undefined
    this.#live.stop()
  }

  /** The person has signed out, or another one has signed in, on one page: the others find out what is true now. */
  #end(by: Page) {
    this.#live.stop()
    this.#user = undefined
    by.started = false
    for (const page of this.#pages.values()) {
      if (!page.started) continue
      page.started = false
      this.#quit(page)
      const status: Status = { phase: 'ended', ended: 'signed-out', degraded: false, failures: 0 }
      page.port.postMessage({ kind: 'status', status })
    }
  }

  #quit(page: Page) {
    for (const stop of page.following.values()) stop()
    page.following.clear()
  }

  #forget(port: PagePort) {
    const page = this.#pages.get(port)
    if (!page) return
    this.#pages.delete(port)
    this.#quit(page)
    if (page.started) this.#stop(page)
  }

  #sweep() {
    for (const page of [...this.#pages.values()]) {
      if (!page.locked && Date.now() - page.heard > silence) this.#forget(page.port)
    }
  }

  #tellStatus() {
    const status = this.#live.status()
    for (const page of this.#pages.values()) if (page.started) page.port.postMessage({ kind: 'status', status })
  }
}
