/**
 * Loads a part of the page that is not in its first file. When the server has
 * been updated since, the parts of the page that is open are gone: then it is
 * loaded anew, at the same address. Nothing is lost: ticks that wait are kept.
 */
export async function part<T>(load: () => Promise<T>, reload: () => void = () => location.reload()): Promise<T> {
  try {
    return await load()
  } catch (error) {
    if (!(await isOutdated())) throw error
    reload()
    return new Promise<never>(() => undefined) // it is going away
  }
}

/** Whether the server has another page by now than the one that is open. */
async function isOutdated(): Promise<boolean> {
  const mine = document.querySelector<HTMLScriptElement>('script[type=module][src]')?.getAttribute('src')
  if (!mine) return false
  try {
    const answer = await fetch('/', { cache: 'no-store' })
    return answer.ok && !(await answer.text()).includes(mine)
  } catch {
    return false // nobody can tell
  }
}
