import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  connections,
  createHabit,
  type Deploys,
  jonas,
  mira,
  type Network,
  newPerson,
  type Person,
  type Server,
  signIn,
  startBrowser,
  startDeploys,
  startNetwork,
  startServer,
  todayCell,
} from './harness'

// The ways on which live updates come: a stream where WebSockets are blocked,
// and pages of two builds that are open at once.

let server: Server
let browser: Browser
/** ticks, straight at the server */
let ticker: Person
let session: Awaited<ReturnType<BrowserContext['cookies']>>
let habits = 0

beforeAll(async () => {
  server = await startServer({ demo: true, env: { SHUTDOWN_TIMEOUT: '6s' } })
  browser = await startBrowser()
  ticker = await newPerson(browser, server)
  await signIn(ticker.page, ...jonas)
  const { page, context } = await newPerson(browser, server)
  await signIn(page, ...mira)
  session = await context.cookies()
  await context.close()
})
afterAll(async () => {
  await browser?.close()
  await server?.destroy()
})

const lines = (page: Page, habit: string) => page.locator('[data-activity]').filter({ hasText: habit })
const live = (page: Page) => page.getByText('Live', { exact: true }).waitFor({ timeout: 60_000 })
const streamed = (page: Page) => page.getByTitle(/lets no WebSocket through/).waitFor({ timeout: 60_000 })

/** Makes a habit and ticks it. */
async function tick(): Promise<string> {
  const name = `Way ${String(++habits).padStart(3, '0')}`
  await createHabit(ticker.page, name, true)
  const answered = ticker.page.waitForResponse((r) => /\/records\//.test(r.url()) && r.ok())
  await todayCell(ticker.page, name).click()
  await answered
  return name
}

/** Expects ticks in a feed, each once. */
async function once(page: Page, ...names: string[]) {
  for (const name of names) {
    await lines(page, name).first().waitFor({ timeout: 20_000 })
    expect(await lines(page, name).count()).toBe(1)
  }
}

describe.each([
  { how: 'refused, over a worker', may: 'be refused', workers: true },
  { how: 'refused, without shared workers', may: 'be refused', workers: false },
  { how: 'swallowed', may: 'be swallowed', workers: true },
] as const)('WebSockets that are $how', ({ may, workers }) => {
  let network: Network
  let me: Person

  beforeEach(async () => {
    network = await startNetwork(server)
    network.sockets(may)
    me = await newPerson(browser, network)
    if (!workers) await me.context.addInitScript(() => Reflect.deleteProperty(globalThis, 'SharedWorker'))
    await me.context.addCookies(session)
  })
  afterEach(async () => {
    expect(me.complaints).toEqual([])
    await me.context.close()
    await network.cut()
  })

  it('a stream does for them: nothing is missed, and a socket takes over once it can', async () => {
    await me.page.goto('/team')
    await live(me.page)
    await streamed(me.page)
    await me.page.locator('[data-here]').getByText(/Jonas/).waitFor()
    const first = await tick()
    await once(me.page, first)

    await network.cut()
    await me.page.getByText('Connecting…').waitFor({ timeout: 20_000 })
    const meanwhile = await tick()
    await network.heal()
    await live(me.page)
    await once(me.page, first, meanwhile)

    // What is followed later comes as well.
    await me.page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Today' }).click()
    await me.page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Team' }).click()
    const later = await tick()
    await once(me.page, first, meanwhile, later)

    expect(network.passed()).toBe(0)
    network.sockets('pass')
    await expect.poll(() => me.page.getByTitle(/lets no WebSocket through/).count(), { timeout: 50_000 }).toBe(0)
    await live(me.page)
    expect(network.passed()).toBe(1)
    const last = await tick()
    await once(me.page, first, meanwhile, later, last)
  }, 180_000)
})

describe('pages of two builds', () => {
  let deploys: Deploys
  let me: Person
  let others: number

  beforeEach(async () => {
    others = await connections(server)
    deploys = await startDeploys(server)
    me = await newPerson(browser, deploys)
    await me.context.addCookies(session)
  })
  afterEach(async () => {
    expect(me.complaints).toEqual([])
    await me.context.close()
    await deploys.close()
  })

  const count = (n: number) => expect.poll(() => connections(server), { timeout: 40_000 }).toBe(others + n)

  it('have a worker each until the old ones are reloaded, and miss nothing', async () => {
    const old = me.page
    await old.goto('/team')
    await live(old)
    await count(1)
    const before = await tick()
    await once(old, before)

    deploys.deploy()
    await server.restart()
    const fresh = await me.context.newPage()
    await fresh.goto('/team')
    await live(fresh)
    await live(old)
    await count(2)
    const both = await tick()
    for (const page of [old, fresh]) await once(page, before, both)

    // Nor when the old one is the last of its build, and then is one of the new.
    await old.reload()
    await live(old)
    await count(1)
    const after = await tick()
    for (const page of [old, fresh]) await once(page, before, both, after)
  }, 120_000)

  it('whose parts are gone load themselves anew where they are', async () => {
    await me.page.goto('/team')
    await live(me.page)
    deploys.deploy()
    await me.page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Admin' }).click()
    await me.page
      .getByRole('region', { name: 'Servers', exact: true })
      .or(me.page.getByText('Redis & cache'))
      .first()
      .waitFor({ timeout: 30_000 })
    expect(await me.page.evaluate(() => document.querySelector('script[type=module]')?.getAttribute('src'))).toMatch(/\.2\.js$/)
    expect(new URL(me.page.url()).pathname).toBe('/admin')
    await me.page.goBack()
    await live(me.page)
  })
})
