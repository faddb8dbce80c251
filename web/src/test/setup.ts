import { cleanup } from '@testing-library/react'
import { afterEach } from 'vitest'

// What jsdom does not have and the page needs.
if (typeof window !== 'undefined') {
  window.matchMedia ??= (media: string) =>
    ({ media, matches: false, addEventListener: () => undefined, removeEventListener: () => undefined }) as unknown as MediaQueryList
  window.scrollTo = () => undefined
  globalThis.ResizeObserver ??= class {
    observe() {}
    unobserve() {}
    disconnect() {}
  }
  Element.prototype.hasPointerCapture ??= () => false
  Element.prototype.scrollIntoView ??= () => undefined
}

afterEach(cleanup)
