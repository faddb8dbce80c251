import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createHabit, jonas, metric, mira, newPerson, type Server, signIn, startBrowser, startServer, todayCell } from './harness'

let server: Server
let browser: Browser

beforeAll(async () => {
  server = await startServer({ demo: true })
  browser = await startBrowser()
})
afterAll(async () => {
  await browser?.close()
  await server?.destroy()
})

type Trace = { deliveries?: { name: string; delivered_ms?: number; rendered_ms?: number; screens: number }[]; linked?: unknown[] }

it('a tick of one person and its line on the screen of another are one trace, with times, and its latency is measured', async () => {
  const sees = await newPerson(browser, server)
  await sees.context.addInitScript(() => {
    Math.random = () => 0 // of one event in a hundred, this is the one
  })
  const traced = sees.page.waitForRequest('**/v1/traces')
  await signIn(sees.page, ...mira)
  await traced // tracing has arrived
  await sees.page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Team' }).click()
  await sees.page.getByText('Live', { exact: true }).waitFor()

  const ticks = await newPerson(browser, server)
  const tracedToo = ticks.page.waitForRequest('**/v1/traces')
  await signIn(ticks.page, ...jonas)
  await tracedToo
  await createHabit(ticks.page, 'Signal', true)
  const [put] = await Promise.all([ticks.page.waitForRequest((r) => r.method() === 'PUT'), todayCell(ticks.page, 'Signal').click()])
  await sees.page.locator('[data-activity]').filter({ hasText: 'Signal' }).waitFor()
  const [, traceId] = ((await put.headerValue('traceparent')) ?? '').split('-')

  const team = async () => {
    const trace = (await (await ticks.page.request.get(`/traces/api/traces/${traceId}`)).json()) as Trace
    return trace.deliveries?.find((d) => d.name === 'publish team:{id}:activity')
  }
  await expect
    .poll(team, { timeout: 20_000 })
    .toMatchObject({ screens: expect.any(Number), delivered_ms: expect.any(Number), rendered_ms: expect.any(Number) })
  const { delivered_ms = -1, rendered_ms = -1 } = (await team()) ?? {}
  expect(delivered_ms).toBeGreaterThanOrEqual(0)
  expect(rendered_ms).toBeGreaterThanOrEqual(delivered_ms)

  // The trace page says so.
  await ticks.page.goto(`/traces/${traceId}`)
  const said = ticks.page.locator('.delivery').filter({ hasText: 'publish team:{id}:activity' })
  await expect.poll(() => said.textContent()).toMatch(/ → delivered \+\S.* → rendered .*\+\S/)

  await expect.poll(() => metric(server, 'realtime_render_latency_seconds_count'), { timeout: 20_000 }).toBeGreaterThanOrEqual(2)
  expect(sees.complaints).toEqual([])
  expect(ticks.complaints).toEqual([])
  await sees.context.close()
  await ticks.context.close()
})
