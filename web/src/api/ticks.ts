import { isTemporary, Problem } from './problem'
import type { Progress } from './types'

/** What a person wants a day of a habit to be. */
export type Tick = {
  /** the client_op_id: the server carries out each only once, however often it is sent */
  op: string
  user: string
  habit: string
  day: string
  /** null takes the record away */
  record: { state: 'done' | 'skip'; value_milli?: number } | null
  /** Unix ms, to keep the order */
  at: number
}

/** Where ticks outlive the page. */
export type Keep = {
  all: (user: string) => Promise<Tick[]>
  put: (tick: Tick) => Promise<void>
  remove: (op: string) => Promise<void>
}

export type TicksOptions = {
  send: (tick: Tick) => Promise<Progress>
  keep: Keep
  /** The server has it. Called before the tick leaves the pending ones. */
  onSent: (tick: Tick, result: Progress) => void
  /** The server will never take it. */
  onRefused: (tick: Tick, error: unknown) => void
  random?: () => number
}

/** The ticks that the server has not confirmed yet. */
export type Pending = {
  ticks: readonly Tick[]
  /** The last try to send failed; they wait here for the next. */
  held: boolean
}

const none: Pending = { ticks: [], held: false }

function cell(tick: Tick): string {
  return `${tick.habit} ${tick.day}`
}

/**
 * Ticks on their way to the server. The page shows them at once on top of what
 * the server last said; they are kept in the browser until it has confirmed
 * them, so that one made offline, or while the server is away, is not lost.
 *
 * For one habit and day they are sent one at a time, in order, and of those
 * that wait only the newest: it says what the day is to be in the end.
 */
export class Ticks {
  readonly #options: Required<TicksOptions>
  readonly #watchers = new Set<() => void>()
  readonly #flying = new Map<string, Tick>()
  #pending: Pending = none
  #user: string | undefined
  #failures = 0
  #retry: ReturnType<typeof setTimeout> | undefined

  constructor(options: TicksOptions) {
    this.#options = { random: Math.random, ...options }
  }

  /** What is pending; a new object whenever it changes. */
  pending = (): Pending => this.#pending

  /** Calls watcher after each change of what is pending. */
  watch = (watcher: () => void): (() => void) => {
    this.#watchers.add(watcher)
    return () => {
      this.#watchers.delete(watcher)
    }
  }

  /** Takes up what the person left behind earlier, and sends it. */
  async start(user: string): Promise<void> {
    if (this.#user === user) return
    this.stop()
    this.#user = user
    const left = await this.#options.keep.all(user).catch((): Tick[] => [])
    if (this.#user !== user) return
    const known = new Set(this.#pending.ticks.map((t) => t.op))
    const ticks = [...left.filter((t) => !known.has(t.op)), ...this.#pending.ticks].sort((a, b) => a.at - b.at)
    this.#set({ ticks, held: this.#pending.held })
    this.#pump()
  }

  /** Lets go of what is pending; it stays kept for the person's next start. */
  stop(): void {
    clearTimeout(this.#retry)
    this.#user = undefined
    this.#failures = 0
    this.#flying.clear()
    this.#set(none)
  }

  /** Sends a tick, now or as soon as that works. */
  add(tick: Tick): void {
    const [replaced, ticks] = partition(this.#pending.ticks, (t) => cell(t) === cell(tick) && this.#flying.get(cell(t)) !== t)
    for (const old of replaced) void this.#options.keep.remove(old.op).catch(() => undefined)
    void this.#options.keep.put(tick).catch(() => undefined)
    this.#set({ ...this.#pending, ticks: [...ticks, tick] })
    this.#pump()
  }

  /** Tries again now: the network is back. */
  nudge(): void {
    if (this.#pending.ticks.length === 0) return
    clearTimeout(this.#retry)
    this.#pump()
  }

  #pump() {
    for (const tick of this.#pending.ticks) {
      if (this.#flying.has(cell(tick))) continue
      this.#flying.set(cell(tick), tick)
      void this.#fly(tick, this.#user)
    }
  }

  async #fly(tick: Tick, user: string | undefined) {
    let outcome: { sent: Progress } | { refused: unknown } | 'later'
    try {
      outcome = { sent: await this.#options.send(tick) }
    } catch (error) {
      // Nobody signed in: it waits for the person to come back.
      const later = isTemporary(error) || (error instanceof Problem && error.status === 401)
      outcome = later ? 'later' : { refused: error }
    }
    if (outcome !== 'later') void this.#options.keep.remove(tick.op).catch(() => undefined)
    if (this.#user !== user || this.#flying.get(cell(tick)) !== tick) return
    this.#flying.delete(cell(tick))
    if (outcome === 'later') {
      this.#later()
      return
    }
    this.#failures = 0
    if ('sent' in outcome) this.#options.onSent(tick, outcome.sent)
    else this.#options.onRefused(tick, outcome.refused)
    this.#set({ ticks: this.#pending.ticks.filter((t) => t !== tick), held: false })
    this.#pump()
  }

  #later() {
    this.#set({ ...this.#pending, held: true })
    clearTimeout(this.#retry)
    const ceiling = Math.min(30_000, 1000 * 2 ** Math.min(this.#failures++, 10))
    this.#retry = setTimeout(() => this.#pump(), ceiling * (0.5 + this.#options.random() / 2))
  }

  #set(pending: Pending) {
    if (pending.held && pending.ticks.length === 0) pending = none
    this.#pending = pending
    for (const watcher of [...this.#watchers]) watcher()
  }
}

function partition<T>(list: readonly T[], test: (it: T) => boolean): [T[], T[]] {
  const yes: T[] = []
  const no: T[] = []
  for (const it of list) (test(it) ? yes : no).push(it)
  return [yes, no]
}
