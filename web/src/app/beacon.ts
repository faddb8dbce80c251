import type { Event, PageLive } from '@/realtime'

/** Of how many events one is reported. */
const oneIn = 100
/** The least time between two reports of a page, in ms. */
const pause = 10_000

/**
 * Calls done with the time at which what is drawn now is on the screen. In the
 * background nothing is drawn: then it calls otherwise, at once.
 */
export function onScreen(done: (at: number) => void, otherwise: () => void = () => undefined): void {
  if (document.visibilityState === 'hidden') {
    otherwise()
    return
  }
  // A frame is prepared; after it the browser gets to other things.
  requestAnimationFrame(() => setTimeout(() => done(Date.now())))
}

export type BeaconOptions = { random?: () => number; post?: (body: string) => void }

/** Reports how long it took from an event to the screen, of one event in a hundred. */
export function startBeacon(realtime: Pick<PageLive, 'onShown'>, { random = Math.random, post = send }: BeaconOptions = {}): void {
  let last = -Infinity
  realtime.onShown((event: Event) => {
    if (random() >= 1 / oneIn || Date.now() - last < pause) return
    const happened = Date.parse(event.timestamp)
    if (!Number.isFinite(happened)) return
    onScreen((at) => {
      last = Date.now()
      // Clocks that are a little apart must not make it come before it happened.
      const received = Math.max(0, event.received - happened)
      const rendered = Math.max(received, at + event.skew - happened)
      post(JSON.stringify({ received_ms: received, rendered_ms: rendered }))
    })
  })
}

function send(body: string) {
  // Nobody waits for the answer, and nothing is to be done if there is none.
  void fetch('/rt/v1/beacon', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body, keepalive: true }).catch(
    () => undefined,
  )
}
