import type { Event } from '@/realtime'

/** One connection as its server sees it. */
export class FakeLink {
  readonly sent: Record<string, unknown>[] = []
  readyState = 0
  closedWith: number | undefined
  onmessage: ((e: MessageEvent<unknown>) => void) | null = null
  onclose: ((e: CloseEvent) => void) | null = null

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>)
  }

  /** The page closes it. */
  close(code?: number): void {
    this.readyState = 3
    this.closedWith = code ?? 1005
  }

  /** The server says something. */
  say(frame: object): void {
    this.onmessage?.(new MessageEvent('message', { data: JSON.stringify(frame) }))
  }

  /** The server greets. */
  hello(pingMs = 25_000): void {
    this.readyState = 1
    this.say({ type: 'hello', conn: 'c', ping_ms: pingMs, limits: {} })
  }

  /** The connection falls, for the page to see. */
  fall(code: number): void {
    this.readyState = 3
    this.onclose?.({ code } as CloseEvent)
  }

  /** The channels asked for in the newest subscription. */
  asked(): unknown {
    return this.sent.findLast((f) => f.type === 'subscribe')?.channels
  }
}

/** A server that the page believes to talk to: it holds every connection that was made. */
export class FakeServer {
  readonly links: FakeLink[] = []

  open = (): WebSocket => {
    const link = new FakeLink()
    this.links.push(link)
    return link as unknown as WebSocket
  }

  /** The newest connection. */
  get link(): FakeLink {
    const last = this.links.at(-1)
    if (!last) throw new Error('no connection was made')
    return last
  }
}

/** An event as it is sent. */
export function anEvent(channel: string, n: number, event = 'habit_updated', data: Record<string, unknown> = {}): Event {
  return { event, data, timestamp: '2026-11-22T08:00:00Z', id: `E${n}`, channel, offset: `e.${n}`, class: 'durable', received: 0, skew: 0 }
}
