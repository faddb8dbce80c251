/** Something that happened, as services/realtime sends it. */
export type Event = {
  event: string
  data: Record<string, unknown>
  /** RFC 3339, when it happened */
  timestamp: string
  /** the same however often it is delivered */
  id: string
  channel: string
  /** opaque; sent back as `since` to go on from here */
  offset: string
  /** `ephemeral`: is not kept, and is no position to go on from */
  class: string
  /** when it arrived in this browser, in ms by the clock of the server as far as it is known */
  received: number
  /** what to add to this browser's clock for that of the server, in ms */
  skew: number
  /** W3C traceparent of whoever made it happen */
  trace?: string
}

/** What the server says about the connection itself. */
export type Control =
  | { type: 'hello'; ping_ms: number; now_ms: number | undefined }
  | { type: 'subscribed'; ch: string; offset: string; recovered: boolean }
  | { type: 'ping' }
  | { type: 'presence'; ch: string; users: string[] | undefined; joined: string[]; left: string[] }
  | { type: 'reset'; ch: string; offset: string }
  | { type: 'status'; status: 'ok' | 'degraded' }
  | { type: 'drain'; reconnect_after_ms: number; deadline_ms: number }
  | { type: 'error'; code: string; ch: string; retry_after_ms: number }

export type Frame = Event | Control

/** Reports whether a frame is an event. */
export function isEvent(frame: Frame): frame is Event {
  return 'event' in frame
}

/** Reads one frame; undefined for what this version of the page does not know. */
export function parseFrame(text: string): Frame | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!isRecord(value)) return undefined
  if (typeof value.event === 'string') return parseEvent(value.event, value)
  switch (value.type) {
    case 'hello':
      return {
        type: 'hello',
        ping_ms: number(value.ping_ms, 25_000),
        now_ms: value.now_ms === undefined ? undefined : number(value.now_ms, Date.now()),
      }
    case 'subscribed':
      return { type: 'subscribed', ch: text_(value.ch), offset: text_(value.offset), recovered: value.recovered === true }
    case 'presence':
      return {
        type: 'presence',
        ch: text_(value.ch),
        users: Array.isArray(value.users) ? texts(value.users) : undefined,
        joined: texts(value.joined),
        left: texts(value.left),
      }
    case 'ping':
      return { type: 'ping' }
    case 'reset':
      return { type: 'reset', ch: text_(value.ch), offset: text_(value.offset) }
    case 'status':
      return { type: 'status', status: value.status === 'degraded' ? 'degraded' : 'ok' }
    case 'drain':
      return {
        type: 'drain',
        reconnect_after_ms: number(value.reconnect_after_ms, 0),
        deadline_ms: number(value.deadline_ms, 10_000),
      }
    case 'error':
      return { type: 'error', code: text_(value.code), ch: text_(value.ch), retry_after_ms: number(value.retry_after_ms, 0) }
    default:
      return undefined
  }
}

function parseEvent(event: string, value: Record<string, unknown>): Event | undefined {
  if (typeof value.id !== 'string' || typeof value.channel !== 'string') return undefined
  return {
    event,
    data: isRecord(value.data) ? value.data : {},
    timestamp: text_(value.timestamp),
    id: value.id,
    channel: value.channel,
    offset: text_(value.offset),
    class: text_(value.class),
    received: Date.now(),
    skew: 0,
    ...(typeof value.trace === 'string' && value.trace !== '' ? { trace: value.trace } : {}),
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function text_(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((v) => typeof v === 'string') : []
}

function number(value: unknown, otherwise: number): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : otherwise
}
