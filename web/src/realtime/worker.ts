// The shared worker: one connection for all pages of a person in a browser. Its
// address holds a hash of what is in it, so that pages of another build have
// another worker.

import { address, stream } from './address'
import { Realtime } from './socket'
import { type PagePort, Switchboard } from './switchboard'

type Scope = { onconnect: ((e: MessageEvent) => void) | null; addEventListener: (type: string, f: () => void) => void }

const scope = globalThis as unknown as Scope
const realtime = new Realtime({ url: address, stream })
const board = new Switchboard(realtime, navigator.locks as LockManager | undefined)
scope.addEventListener('online', () => realtime.nudge())
scope.onconnect = (e) => {
  const port = e.ports[0]
  if (port) board.connect(port as unknown as PagePort)
}
