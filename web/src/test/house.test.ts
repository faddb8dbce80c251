import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'

// The rules of the house that a type checker does not hold.

const src = path.resolve(__dirname, '..')
const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((f) => /\.(ts|tsx)$/.test(f) && !f.endsWith('.d.ts'))
  .map((name) => ({ name, text: readFileSync(path.join(src, name), 'utf8') }))

/** What a part may import of the others. */
const allowed: Record<string, string[]> = {
  ui: [],
  realtime: [],
  api: [],
  features: ['api', 'realtime', 'ui'],
  app: ['api', 'realtime', 'ui', 'features'],
  test: ['api', 'realtime', 'ui', 'features', 'app'],
}

/** The part of src that a file or an import is in. */
function part(name: string): string {
  return name.split('/')[0] ?? ''
}

function importsOf(file: { name: string; text: string }): string[] {
  return [...file.text.matchAll(/(?:from|import\()\s*'([^']+)'/g)]
    .map((m) => m[1] ?? '')
    .filter((to) => to.startsWith('@/') || to.startsWith('.'))
    .map((to) => (to.startsWith('@/') ? to.slice(2) : path.join(path.dirname(file.name), to)))
}

describe('the house', () => {
  it.each(files.filter((f) => f.name.includes('/') && !/\.test\.tsx?$/.test(f.name)))('$name imports only what it may', (file) => {
    const own = part(file.name)
    const bad = importsOf(file).filter((to) => part(to) !== own && !allowed[own]?.includes(part(to)))
    expect(bad).toEqual([])
  })

  it('has no feature that imports another', () => {
    const feature = (name: string) => /^features\/([^/]+)/.exec(name)?.[1]
    const bad = files.flatMap((f) => {
      const own = feature(f.name)
      return own === undefined
        ? []
        : importsOf(f)
            .filter((to) => feature(to) !== undefined && feature(to) !== own)
            .map((to) => `${f.name} → ${to}`)
    })
    expect(bad).toEqual([])
  })

  it('says what everything is: no any', () => {
    const bad = files.filter((f) => /(:|<|\bas|\|) ?any\b(?!\w)[\s>;,)\]]/.test(f.text.replace(/\/\/.*|\/\*[\s\S]*?\*\//g, '')))
    expect(bad.map((f) => f.name)).toEqual([])
  })

  it('keeps files short', () => {
    const long = files.filter((f) => f.text.split('\n').length > 600)
    expect(long.map((f) => f.name)).toEqual([])
  })
})
