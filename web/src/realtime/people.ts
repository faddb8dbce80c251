import type { OnPeople } from './live'

/** How long somebody may take to come back after a server began anew, and has to hear from everybody. */
const patience = 10_000

/** Who is here, in one team, and those who want to know. */
export class People {
  readonly #listeners = new Set<OnPeople>()
  readonly #leaving = new Map<string, ReturnType<typeof setTimeout>>()
  #here: ReadonlySet<string> | undefined

  listen(onPeople: OnPeople): () => void {
    this.#listeners.add(onPeople)
    onPeople(this.#here)
    return () => this.#listeners.delete(onPeople)
  }

  /** All who are here, as a server said. */
  all(users: readonly string[]): void {
    const now = new Set(users)
    for (const user of this.#here ?? []) {
      if (now.has(user)) continue
      now.add(user)
      if (this.#leaving.has(user)) continue
      const gone = () => {
        this.#leaving.delete(user)
        this.change([], [user])
      }
      this.#leaving.set(user, setTimeout(gone, patience))
    }
    for (const user of users) this.#stays(user)
    this.#set(now)
  }

  /** What has changed, as a server said. Without the whole it means nothing. */
  change(joined: readonly string[], left: readonly string[]): void {
    if (!this.#here) return
    const now = new Set(this.#here)
    for (const user of joined) now.add(user)
    for (const user of left) now.delete(user)
    for (const user of [...joined, ...left]) this.#stays(user)
    this.#set(now)
  }

  forget(): void {
    for (const user of [...this.#leaving.keys()]) this.#stays(user)
    this.#set(undefined)
  }

  #stays(user: string) {
    clearTimeout(this.#leaving.get(user))
    this.#leaving.delete(user)
  }

  #set(here: ReadonlySet<string> | undefined) {
    const before = this.#here
    if (here === before || (here && before && here.size === before.size && [...here].every((u) => before.has(u)))) return
    this.#here = here
    for (const listener of [...this.#listeners]) listener(here)
  }
}
