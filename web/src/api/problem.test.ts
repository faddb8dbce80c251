import { describe, expect, it } from 'vitest'
import { positionOf } from './client'
import { explain, fieldProblem, isTemporary, Problem, Unreachable } from './problem'

const invalid = new Problem(422, {
  title: 'Not accepted',
  status: 422,
  code: 'invalid',
  detail: 'validation failed',
  errors: [
    { location: 'body.schedule.weekdays[0]', message: 'expected a number of 0 to 6', value: 9 },
    { location: 'body.name', message: 'must not be empty' },
    { nonsense: true },
    7,
  ],
})

describe('a problem', () => {
  it('is explained by what its fields need', () => {
    expect(explain(new Problem(422, { errors: [{ location: 'body.name', message: 'must not be empty' }] }))).toBe('Must not be empty.')
    expect(explain(new Problem(409, { detail: 'a team needs an owner' }))).toBe('A team needs an owner.')
  })

  it('belongs to its field', () => {
    expect(fieldProblem(invalid, 'schedule')).toBe('Expected a number of 0 to 6.')
    expect(fieldProblem(invalid, 'name')).toBe('Must not be empty.')
    expect(fieldProblem(invalid, 'names')).toBeUndefined()
    expect(fieldProblem(new Unreachable('x'), 'name')).toBeUndefined()
  })

  it.each([undefined, null, '', '<html>', 12, [], { errors: 'none' }])('is one whatever was sent with it: %j', (body) => {
    const it = new Problem(502, body)
    expect(it.message).toBe('The server answered with status 502.')
    expect(it.fields).toEqual([])
    expect(explain(it)).toContain('Nothing you did is lost')
  })

  it.each([
    [new Unreachable('x'), true],
    [new Problem(503, {}), true],
    [new Problem(429, {}), true],
    [new Problem(401, {}), false],
    [new Problem(422, {}), false],
    [new TypeError('x'), false],
  ])('%s may pass by itself: %s', (error, want) => {
    expect(isTemporary(error)).toBe(want)
  })
})

describe('the position of a channel', () => {
  it.each([
    ['user:1:habits=e.5', 'e.5'],
    ['team:1:activity=e.4, user:1:habits=e.5', 'e.5'],
    ['user:11:habits=e.5', undefined],
    ['', undefined],
    [null, undefined],
  ])('in %j is %s', (header, want) => {
    expect(positionOf('user:1:habits', header)).toBe(want)
  })
})
