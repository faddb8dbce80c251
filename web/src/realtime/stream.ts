import { type Place, type Wire } from './wire'

/** How long to wait for more to be asked for, before a stream is opened for it. */
const gather = 50

export type StreamOptions = {
  /** the address of the streams */
  url: string
  /** what is to be followed by now, and from where */
  places: () => Place[]
  fetch: typeof fetch
}

/**
 * A connection made of a stream of server-sent events, for networks that let no
 * WebSocket through. What is followed cannot be changed on an open stream: for
 * more, another one is opened, from where its channels stand by then, and the
 * old one is read until the new one has begun. What comes twice is for the
 * reader to drop. An EventSource would not show comments, by which a stream
 * that is alive is told from one that is not, nor why it was refused.
 */
export class StreamWire implements Wire {
  readyState = 0
  onmessage: Wire['onmessage'] = null
  onclose: Wire['onclose'] = null
  readonly #options: StreamOptions
  /** the stream that is read, and the one that is to take its place */
  #now: AbortController | undefined
  #next: AbortController | undefined
  #asked = new Set<string>()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(options: StreamOptions) {
    this.#options = options
    this.#soon()
  }

  /** Of all messages only those matter that ask for channels: the rest is of no use to a stream. */
  send(text: string): void {
    const message = JSON.parse(text) as { type: string; channels?: Place[] }
    if (message.type === 'subscribe' && message.channels?.some(({ ch }) => !this.#asked.has(ch))) this.#soon()
  }

  close(): void {
    this.readyState = 3
    clearTimeout(this.#timer)
    this.#now?.abort()
    this.#next?.abort()
  }

  #finish(code: number) {
    if (this.readyState === 3) return
    this.close()
    this.onclose?.({ code })
  }

  #soon() {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#open(), gather)
  }

  async #open() {
    this.#next?.abort()
    const me = new AbortController()
    this.#next = me
    const places = this.#options.places()
    this.#asked = new Set(places.map(({ ch }) => ch))
    let code: number
    try {
      code = await this.#follow(places, me)
    } catch {
      code = 1006 // the network
    }
    // One that was replaced ends as it should.
    if (me === this.#now || me === this.#next) this.#finish(code)
  }

  /** Reads a stream to its end, and returns what it ended with, as a code of a WebSocket. */
  async #follow(places: Place[], me: AbortController): Promise<number> {
    const answer = await this.#options.fetch(addressOf(this.#options.url, places), {
      headers: { Accept: 'text/event-stream' },
      cache: 'no-store',
      signal: me.signal,
    })
    if (answer.status !== 200 || !answer.body || !/^text\/event-stream\b/.test(answer.headers.get('Content-Type') ?? ''))
      return codes[answer.status] ?? 1006
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
    const lines = new Lines()
    for (;;) {
      const { done, value } = await reader.read()
      if (done || me.signal.aborted) return 1006
      for (const text of lines.push(value)) {
        const code = this.#receive(me, text)
        if (code !== undefined) return code
      }
    }
  }

  #receive(me: AbortController, text: string): number | undefined {
    if (me === this.#next && text !== alive) {
      this.#now?.abort()
      this.#now = me
      this.#next = undefined
      this.readyState = 1
    }
    const close = closed(text)
    if (close !== undefined) return close
    if (this.readyState === 1) this.onmessage?.({ data: text })
    return undefined
  }
}

/** What a comment is read as. */
const alive = '{"type":"ping"}'

/** The codes of WebSockets for answers that are no streams. All others are worth another try. */
const codes: Readonly<Record<number, number>> = { 204: 4501, 400: 4500, 401: 4501, 403: 4500, 429: 4502 }

function addressOf(url: string, places: Place[]): string {
  // Without a channel to follow yet, it is a connection all the same.
  if (places.length === 0) return `${url}?own=1`
  return `${url}?channels=${places.map(({ ch, since }) => encodeURIComponent(since === undefined ? ch : `${ch}@${since}`)).join(',')}`
}

function closed(text: string): number | undefined {
  if (!text.includes('"close"')) return undefined
  const message = JSON.parse(text) as { type?: unknown; code?: unknown }
  return message.type === 'close' ? (typeof message.code === 'number' ? message.code : 1006) : undefined
}

/** Takes what is sent apart, as the HTML standard says: the data of each event, and comments. */
class Lines {
  #rest = ''
  #data: string[] = []

  push(chunk: string): string[] {
    const found: string[] = []
    const lines = (this.#rest + chunk).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw
      if (line.startsWith(':')) found.push(alive)
      else if (line.startsWith('data:')) this.#data.push(line.slice(line.startsWith('data: ') ? 6 : 5))
      else if (line === '' && this.#data.length > 0) {
        found.push(this.#data.join('\n'))
        this.#data = []
      }
    }
    return found
  }
}
