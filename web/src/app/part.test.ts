import { afterEach, expect, it, vi } from 'vitest'
import { part } from './part'

const gone = () => Promise.reject(new TypeError('Failed to fetch dynamically imported module'))

function page(mine: string, now: string | undefined) {
  document.head.innerHTML = `<script type="module" src="/assets/${mine}.js"></script>`
  vi.stubGlobal('fetch', () =>
    now === undefined ? Promise.reject(new TypeError('no network')) : Promise.resolve(new Response(`<script src="/assets/${now}.js">`)),
  )
}
afterEach(() => vi.unstubAllGlobals())

it('a part that is there is handed on', async () => {
  expect(await part(() => Promise.resolve(7))).toBe(7)
})

it('a part of a page that the server no longer has loads the page anew', async () => {
  page('index-1', 'index-2')
  const reload = vi.fn()
  void part(gone, reload)
  await vi.waitFor(() => expect(reload).toHaveBeenCalledOnce())
})

it.each([
  ['the page is still the same', 'index-1'],
  ['nobody can tell', undefined],
])('where %s, it fails as it did', async (_, now) => {
  page('index-1', now)
  const reload = vi.fn()
  await expect(part(gone, reload)).rejects.toThrow('Failed to fetch')
  expect(reload).not.toHaveBeenCalled()
})
