/** Remembers the newest ids it was shown, so that a thing delivered twice counts once. */
export class Seen {
  readonly #ids = new Set<string>()
  readonly #limit: number

  constructor(limit = 2048) {
    this.#limit = limit
  }

  /** Reports whether id is new, and remembers it. */
  first(id: string): boolean {
    if (this.#ids.has(id)) return false
    this.#ids.add(id)
    if (this.#ids.size > this.#limit) {
      for (const oldest of this.#ids) {
        this.#ids.delete(oldest)
        break
      }
    }
    return true
  }
}
