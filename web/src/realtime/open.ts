import { address, stream } from './address'
import { PageLive, type SharedEnd } from './page'
import { Realtime } from './socket'

/** The live updates of this page, for as long as it lives. */
export function openLive(): PageLive {
  const locks = navigator.locks as LockManager | undefined
  const live = new PageLive({
    share: () =>
      typeof SharedWorker === 'undefined'
        ? undefined
        : (new SharedWorker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'crewbeat' }) as unknown as SharedEnd),
    alone: () => new Realtime({ url: address, stream }),
    hold:
      locks &&
      ((lock) =>
        new Promise((held, failed) => {
          locks
            .request(lock, () => {
              held()
              return new Promise(() => undefined) // until the page is gone
            })
            .catch(failed)
        })),
  })
  addEventListener('pagehide', () => live.leave())
  addEventListener('pageshow', (e) => e.persisted && live.revive())
  return live
}
