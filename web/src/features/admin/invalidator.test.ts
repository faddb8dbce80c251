import { describe, expect, it } from 'vitest'
import { requestOf, sentenceOf } from './invalidator'

describe('an invalidation', () => {
  it('sends a tag alone, and one thing with a cache', () => {
    expect(requestOf('tag', 'user', 'team:1')).toEqual({ tag: 'team:1' })
    expect(requestOf('prefix', 'user', 'a')).toEqual({ namespace: 'user', prefix: 'a' })
    expect(requestOf('key', 'user', 'a')).toEqual({ namespace: 'user', key: 'a' })
    expect(requestOf('all', 'user', 'left over')).toEqual({ namespace: 'user', all: true })
  })

  it('says what it reaches before it is done', () => {
    expect(sentenceOf('tag', 'user', 'team:1')).toMatch(/team:1.*all caches/)
    expect(sentenceOf('all', 'user', '')).toMatch(/whole cache user/)
  })
})
