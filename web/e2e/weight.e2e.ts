import { gzipSync } from 'node:zlib'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createHabit, newPerson, register, type Server, startBrowser, startServer, todayCell } from './harness'

let server: Server
let browser: Browser

beforeAll(async () => {
  server = await startServer()
  browser = await startBrowser()
})
afterAll(async () => {
  await browser?.close()
  await server?.destroy()
})

it('the JavaScript that paints the page weighs at most 220 KiB, gzipped', async () => {
  const html = await (await fetch(server.url)).text()
  const scripts = [...html.matchAll(/<script[^>]+src="([^"]+)"|<link[^>]+modulepreload[^>]+href="([^"]+)"/g)].map((m) => m[1] ?? m[2] ?? '')
  expect(scripts.length).toBeGreaterThan(0)
  const weights = await Promise.all(scripts.map(async (src) => gzipSync(await (await fetch(new URL(src, server.url))).bytes()).byteLength))
  expect(weights.reduce((a, b) => a + b) / 1024).toBeLessThanOrEqual(220)
})

it('a tick is one trace, from the browser on', async () => {
  const { page, context, complaints } = await newPerson(browser, server)
  const sent = page.waitForRequest('**/v1/traces')
  await register(page, 'Traced')
  await createHabit(page, 'Trace')
  await sent // tracing has arrived
  const [put] = await Promise.all([page.waitForRequest((r) => r.method() === 'PUT'), todayCell(page, 'Trace').click()])
  const [, traceId] = ((await put.headerValue('traceparent')) ?? '').split('-')
  expect(traceId).toMatch(/^[0-9a-f]{32}$/)
  const names = async () => (await page.request.get(`/traces/api/traces/${traceId}`)).text()
  await expect.poll(names, { timeout: 10_000 }).toContain('PUT /api/v1/habits/{id}/records/{day}')
  await expect.poll(names, { timeout: 10_000 }).toContain('crewbeat-web')
  expect(complaints).toEqual([])
  await context.close()
})
