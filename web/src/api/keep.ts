import { type DBSchema, type IDBPDatabase, openDB } from 'idb'
import type { Keep, Tick } from './ticks'

interface Schema extends DBSchema {
  ticks: { key: string; value: Tick; indexes: { user: string } }
}

/** Keeps ticks in IndexedDB. Where that is blocked, they last as long as the page. */
export function keepInBrowser(): Keep {
  let opened: Promise<IDBPDatabase<Schema>> | undefined
  const db = () =>
    (opened ??= openDB<Schema>('crewbeat', 1, {
      upgrade(fresh) {
        fresh.createObjectStore('ticks', { keyPath: 'op' }).createIndex('user', 'user')
      },
    }))
  return {
    all: async (user) => (await db()).getAllFromIndex('ticks', 'user', user),
    put: async (tick) => {
      await (await db()).put('ticks', tick)
    },
    remove: async (op) => (await db()).delete('ticks', op),
  }
}
