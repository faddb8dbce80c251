/** Where somebody stands in a channel. */
export type Place = { ch: string; since?: string }

/** What a connection needs of a WebSocket, or of what does for one. */
export type Wire = {
  /** 1: open */
  readonly readyState: number
  onmessage: ((message: { data: unknown }) => void) | null
  onclose: ((closed: { code: number }) => void) | null
  send: (text: string) => void
  close: (code?: number) => void
}

/** The ways to the server: a WebSocket, or where that is blocked a stream of server-sent events. */
export type Way = 'socket' | 'stream'

/** So many sockets in a row must fail before a stream is tried; more where they have worked before. */
const strange = 2
const known = 4

/**
 * Chooses the way of the next connection. Sockets that never get as far as the
 * server's greeting may be blocked, or there is no server at all; then streams
 * fail as well, and both are tried in turn. One that works is stayed with, and
 * from time to time a socket is tried beside it.
 */
export class Ways {
  #failed = 0
  #last: Way = 'socket'
  #worked = false
  #trials = 0

  next(): Way {
    const blocked = this.#failed >= (this.#worked ? known : strange)
    this.#last = !blocked || this.#last === 'stream' ? 'socket' : 'stream'
    return this.#last
  }

  /** The server has greeted over a way: it is the one to come back by. */
  works(way: Way): void {
    this.#trials = 0
    if (way === 'socket') {
      this.#failed = 0
      this.#worked = true
    }
    // The next one but this is of the other kind.
    this.#last = way === 'stream' ? 'socket' : way
  }

  /** A socket ended before the server had greeted; silent: nothing came at all, for long. */
  fails(silent: boolean): void {
    this.#failed += silent ? strange : 1
  }

  /** In how many ms a socket is to be tried beside a stream. The first time soon: perhaps only the server was away. */
  trial(random: () => number): number {
    const most = Math.min(30 * 60_000, 3000 * 8 ** this.#trials++)
    return Math.round(most * (0.5 + random() / 2))
  }
}
