import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  createHabit,
  mira,
  type Network,
  newPerson,
  type Person,
  type Redis,
  register,
  type Server,
  signIn,
  startBrowser,
  startNetwork,
  startRedis,
  startServer,
  todayCell,
} from './harness'

let server: Server
let network: Network
let browser: Browser
let me: Person

beforeAll(async () => {
  server = await startServer({ demo: true })
  network = await startNetwork(server)
  browser = await startBrowser()
})
afterAll(async () => {
  await browser?.close()
  await network?.cut()
  await server?.destroy()
})
afterEach(async () => {
  expect(me.complaints).toEqual([])
  await me.context.close()
})

describe('offline', () => {
  it('a tick is kept, said to wait, outlives a reload of the page, and is sent once on return', async () => {
    me = await newPerson(browser, network)
    const { page, context } = me
    await register(page, 'Traveller')
    await createHabit(page, 'Write')
    await createHabit(page, 'Sing')
    await expect.poll(() => todayCell(page, 'Sing').isVisible()).toBe(true)

    await context.setOffline(true)
    await network.cut()
    await page.getByText('You are offline.').waitFor()
    await todayCell(page, 'Write').click()
    await todayCell(page, 'Sing').click()
    await page.getByText('2 are waiting.').waitFor()
    await expect.poll(() => todayCell(page, 'Write').getAttribute('aria-label')).toMatch(/done, waiting to be sent$/)
    // Taken back before it left: only that is sent.
    await todayCell(page, 'Sing').click()

    // The page itself cannot be loaded offline yet; the browser has kept the ticks.
    // However often it is sent, it is one operation.
    const operations = new Set<unknown>()
    page.on('request', (r) => {
      if (r.method() === 'PUT') operations.add((r.postDataJSON() as Record<string, unknown> | null)?.client_op_id)
    })
    await network.heal()
    await context.setOffline(false)
    await page.reload()
    await expect.poll(() => todayCell(page, 'Write').getAttribute('aria-label')).toMatch(/: done$/)
    await expect.poll(() => page.getByText('You are offline.').count()).toBe(0)
    await page.getByRole('img', { name: /^Streak: 1 day/ }).waitFor()
    expect(operations.size).toBe(1)
    expect(await todayCell(page, 'Sing').getAttribute('aria-pressed')).toBe('false')
  })

  it('a page that is asked for says what happened, and loads when asked again', async () => {
    me = await newPerson(browser, network)
    const { page, context } = me
    await register(page, 'Tunnel')
    await context.setOffline(true)
    await network.cut()
    await page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Settings' }).click()
    await page.getByRole('alert').getByText('You are offline. Check your connection and try again.').waitFor()
    await network.heal()
    await context.setOffline(false)
    await page.getByText('This one, in use now').waitFor()
  })
})

describe('a server that does not answer', () => {
  it('is said so; ticks wait for it and nobody is signed out', async () => {
    me = await newPerson(browser, network)
    const { page } = me
    await register(page, 'Patient')
    await createHabit(page, 'Breathe')
    await network.cut()
    await page.getByText('Crewbeat does not answer.').waitFor({ timeout: 40_000 })
    await todayCell(page, 'Breathe').click()
    await page.getByText('One is waiting.').waitFor()
    // Away still, it is asked at once; back, it is found without another word.
    const asked = page.waitForRequest('**/api/health')
    await page.getByRole('button', { name: 'Try now' }).click()
    await asked
    await network.heal()
    await expect.poll(() => page.getByText('Crewbeat does not answer.').count(), { timeout: 15_000 }).toBe(0)
    await expect.poll(() => todayCell(page, 'Breathe').getAttribute('aria-label'), { timeout: 15_000 }).toMatch(/: done$/)
    await page.reload()
    await expect.poll(() => todayCell(page, 'Breathe').getAttribute('aria-label')).toMatch(/: done$/)
  })

  it('at the start is said so, with a way to try again', async () => {
    me = await newPerson(browser, server)
    const { page } = me
    await page.route('**/api/v1/me', (route) => route.abort())
    await page.goto('/')
    await page.getByRole('heading', { name: 'Crewbeat did not load' }).waitFor()
    await page.unroute('**/api/v1/me')
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.getByRole('button', { name: 'Sign in' }).waitFor()
    // What was caught is logged too.
    expect(me.complaints.filter((c) => !c.includes('Unreachable'))).toEqual([])
    me.complaints.length = 0
  })
})

describe('an answer that cannot be used', () => {
  it('for the week: says what happened, and loads on the next try', async () => {
    me = await newPerson(browser, server)
    const { page } = me
    await signIn(page, ...mira)
    await page.route('**/api/v1/dashboard*', (route) =>
      route.fulfill({ status: 500, contentType: 'application/problem+json', body: '{"status":500,"title":"Internal"}' }),
    )
    await page.goto('/')
    await page.getByRole('heading', { name: 'Your week did not load' }).waitFor()
    await page.getByText('Crewbeat had a problem of its own.').waitFor()
    await page.unroute('**/api/v1/dashboard*')
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.getByRole('grid').waitFor()
  })

  it('for a tick: it is taken back on the page, with the reason', async () => {
    me = await newPerson(browser, server)
    const { page } = me
    await register(page, 'Refused')
    await createHabit(page, 'Sail')
    await page.route('**/records/*', (route) =>
      route.fulfill({
        status: 422,
        contentType: 'application/problem+json',
        body: JSON.stringify({ status: 422, title: 'Invalid', code: 'invalid', detail: 'this day is over' }),
      }),
    )
    await todayCell(page, 'Sail').click()
    await page.getByText('Not recorded. This day is over.').first().waitFor()
    await expect.poll(() => todayCell(page, 'Sail').getAttribute('aria-pressed')).toBe('false')
  })

  it('for a while: shapes stand where the week will be', async () => {
    me = await newPerson(browser, server)
    const { page } = me
    await signIn(page, ...mira)
    let release = () => undefined as void
    const held = new Promise<void>((resolve) => (release = resolve))
    await page.route('**/api/v1/dashboard*', async (route) => {
      await held
      await route.continue()
    })
    await page.goto('/')
    await page.getByRole('status').getByText('Loading your week').waitFor({ state: 'attached' })
    release()
    await page.getByRole('grid').waitFor()
  })
})

describe('Redis that dies', () => {
  let redis: Redis
  let degraded: Server
  beforeAll(async () => {
    redis = await startRedis()
    degraded = await startServer({
      env: { REDIS_URL: redis.url, REDIS_REQUIRED: 'false', REDIS_HEALTH_CHECK_INTERVAL: '500' },
    })
  })
  afterAll(async () => {
    await degraded?.destroy()
    await redis?.kill()
  })

  it('brings a banner, signs nobody out, loses no tick, and the banner goes when it is back', async () => {
    me = await newPerson(browser, degraded)
    const { page } = me
    await register(page, 'Steady')
    await createHabit(page, 'Row')
    await redis.kill()
    await page.getByText('Degraded: slower, nothing lost.').waitFor({ timeout: 45_000 })
    await todayCell(page, 'Row').click()
    await page.getByRole('img', { name: /^Streak: 1 day/ }).waitFor()
    await page.reload()
    await expect.poll(() => todayCell(page, 'Row').getAttribute('aria-label')).toMatch(/: done$/)
    await redis.start()
    await page.getByText('Degraded: slower, nothing lost.').waitFor({ state: 'detached', timeout: 45_000 })
  }, 120_000)
})
