import { StreamWire } from './stream'
import type { Place, Wire } from './wire'

/** Where events come from: the server of the page. */
export function address(): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/rt/v1/ws`
}

/** The same as a stream of server-sent events. */
export function stream(places: () => Place[]): Wire {
  return new StreamWire({ url: `${location.origin}/rt/v1/events`, places, fetch: (...a) => fetch(...a) })
}
