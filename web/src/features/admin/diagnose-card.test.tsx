// @vitest-environment jsdom
import { render, screen } from '@testing-library/react'
import { describe, expect, it } from 'vitest'
import type { Diagnosis } from '@/api/admin'
import { Findings } from './diagnose-card'
import { whyUnseen } from './servers-card'

const empty: Diagnosis = {
  node: 'api',
  at: '2026-11-22T10:00:00Z',
  took_ms: 12,
  address: 'redis:6379',
  worst: '',
  looked: [],
  findings: [],
}

describe('a diagnosis', () => {
  it('says that nothing is wrong only where it has looked', () => {
    render(<Findings of={{ ...empty, looked: ['connection', 'memory'] }} area="memory" />)
    screen.getByText('Nothing is wrong')
    render(<Findings of={empty} area="memory" />)
    screen.getByText('No Redis: nothing to diagnose')
  })

  it('shows what was seen, causes and next steps, and what could not be looked at', () => {
    render(
      <Findings
        area="memory"
        of={{
          ...empty,
          worst: 'critical',
          looked: ['connection'],
          findings: [
            {
              id: 'connection.refused',
              area: 'connection',
              severity: 'critical',
              node: 'redis:6379',
              seen: 'It cannot be used.',
              causes: ['It does not run.'],
              next: ['Start it.'],
            },
          ],
        }}
      />,
    )
    for (const text of ['Critical', 'It cannot be used.', 'It does not run.', 'Start it.', /its memory could not/]) screen.getByText(text)
    expect(screen.queryByText('Nothing is wrong')).toBeNull()
  })
})

describe('a part of a server', () => {
  it('says why it was not seen', () => {
    expect(whyUnseen({ state: 'ok' })).toBe('')
    expect(whyUnseen({ state: 'failed', error: 'time-out' })).toBe('It did not answer: time-out')
    expect(whyUnseen({ state: 'not_permitted' })).toMatch(/Not permitted/)
  })
})
