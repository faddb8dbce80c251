import type { Browser, BrowserContext, CDPSession, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  connections,
  createHabit,
  expectAccessible,
  jonas,
  mira,
  type Network,
  newPerson,
  type Person,
  phone,
  type Server,
  signIn,
  startBrowser,
  startNetwork,
  startServer,
  todayCell,
} from './harness'

let server: Server
let network: Network
let browser: Browser
/** ticks, away from whatever happens to the network */
let ticker: Person
let habits = 0
/** Mira's, since signing in is limited */
let session: Cookies

beforeAll(async () => {
  // Clients are asked to leave over half of the time to stop.
  server = await startServer({ demo: true, env: { SHUTDOWN_TIMEOUT: '6s' } })
  network = await startNetwork(server)
  browser = await startBrowser()
  ticker = await newPerson(browser, server)
  await signIn(ticker.page, ...jonas)
  session = await sessionOf(...mira)
})
afterAll(async () => {
  await browser?.close()
  await network?.cut()
  await server?.destroy()
})

type Cookies = Awaited<ReturnType<BrowserContext['cookies']>>

const lines = (page: Page, habit: string) => page.locator('[data-activity]').filter({ hasText: habit })
const live = (page: Page) => page.getByText('Live', { exact: true }).waitFor({ timeout: 40_000 })

/** Signs somebody in, and returns how their browser would go on. */
async function sessionOf(email: string, password: string): Promise<Cookies> {
  const { page, context } = await newPerson(browser, server)
  await signIn(page, email, password)
  const cookies = await context.cookies()
  await context.close()
  return cookies
}

/** Makes a habit that nobody has, ready to be ticked. */
async function aHabit(): Promise<string> {
  const name = `Watch ${String(++habits).padStart(3, '0')}`
  await createHabit(ticker.page, name, true)
  return name
}

async function tick(habit: string) {
  const answered = ticker.page.waitForResponse((r) => /\/records\//.test(r.url()) && r.ok())
  await todayCell(ticker.page, habit).click()
  await answered
}

/** Expects a tick in a feed, once, also a moment later. */
async function once(page: Page, habit: string) {
  await lines(page, habit).first().waitFor({ timeout: 20_000 })
  expect(await lines(page, habit).count()).toBe(1)
}

describe.each([
  { how: 'over a worker', removed: false, sockets: 1 },
  { how: 'without shared workers', removed: true, sockets: 2 },
])('two tabs of a person, $how', ({ removed, sockets }) => {
  let me: Person
  let first: Page
  let second: Page
  let others: number

  beforeEach(async () => {
    others = await connections(server)
    me = await newPerson(browser, network)
    if (removed) await me.context.addInitScript(() => Reflect.deleteProperty(globalThis, 'SharedWorker'))
    first = me.page
    await me.context.addCookies(session)
    await first.goto('/team')
    second = await me.context.newPage()
    await second.goto('/team')
    await live(first)
    await live(second)
    await expect.poll(() => connections(server)).toBe(others + sockets)
  })
  afterEach(async () => {
    expect(me.complaints).toEqual([])
    await me.context.close()
    await expect.poll(() => connections(server), { timeout: 20_000 }).toBe(others)
  })

  it('both see a tick, once', async () => {
    const habit = await aHabit()
    await tick(habit)
    await once(first, habit)
    await once(second, habit)
  })

  it('miss nothing and see nothing twice after the network was cut', async () => {
    const [before, meanwhile, after] = [await aHabit(), await aHabit(), await aHabit()]
    await tick(before)
    await once(first, before)
    await me.context.setOffline(true)
    await network.cut()
    for (const page of [first, second]) {
      await page.getByText('Offline', { exact: true }).waitFor({ timeout: 20_000 })
      await page.locator('[data-here]').waitFor({ state: 'detached' })
    }
    await tick(meanwhile)
    await network.heal()
    await me.context.setOffline(false)
    await live(first)
    await live(second)
    await tick(after)
    for (const page of [first, second]) for (const habit of [before, meanwhile, after]) await once(page, habit)
    expect(await connections(server)).toBe(others + sockets)
  })

  it('a tab that was put to sleep has everything when it wakes', async () => {
    const [asleep, awake] = [await aHabit(), await aHabit()]
    const cdp: CDPSession = await me.context.newCDPSession(second)
    await cdp.send('Page.setWebLifecycleState', { state: 'frozen' })
    await tick(asleep)
    await once(first, asleep)
    await cdp.send('Page.setWebLifecycleState', { state: 'active' })
    await tick(awake)
    for (const page of [first, second]) for (const habit of [asleep, awake]) await once(page, habit)
  })

  it('go on after the server was restarted', async () => {
    const [before, after] = [await aHabit(), await aHabit()]
    await tick(before)
    await once(second, before)
    await server.restart()
    await live(first)
    await live(second)
    await tick(after)
    for (const page of [first, second]) for (const habit of [before, after]) await once(page, habit)
    // The ticker comes back when it likes.
    await expect.poll(() => connections(server), { timeout: 40_000 }).toBe(others + sockets)
  })

  it('signing out in one ends it in both', async () => {
    await first.goto('/settings')
    await first.getByRole('button', { name: 'Sign out', exact: true }).click()
    await first.getByRole('button', { name: 'Sign in' }).waitFor()
    await second.getByRole('button', { name: 'Sign in' }).waitFor({ timeout: 20_000 })
    await expect.poll(() => connections(server), { timeout: 20_000 }).toBe(others)
    session = await sessionOf(...mira) // that one is over
  })

  it('one that is closed, or crashes, leaves the other alone', async () => {
    const third = await me.context.newPage()
    await third.goto('/team')
    await live(third)
    const cdp = await me.context.newCDPSession(third)
    await Promise.race([cdp.send('Page.crash').catch(() => undefined), new Promise((done) => third.once('crash', done))])
    await first.close()
    const habit = await aHabit()
    await tick(habit)
    await once(second, habit)
    await expect.poll(() => connections(server), { timeout: 20_000 }).toBe(others + 1)
  })
})

describe('a worker that does not work', () => {
  it.each([
    [
      'cannot be started',
      () => {
        globalThis.SharedWorker = class {
          constructor() {
            throw new DOMException('refused', 'SecurityError')
          }
        } as unknown as typeof SharedWorker
      },
    ],
    [
      'never answers',
      () => {
        globalThis.SharedWorker = class {
          port = new MessageChannel().port1
        } as unknown as typeof SharedWorker
      },
    ],
  ])('that %s is done without', async (_, script) => {
    const me = await newPerson(browser, server)
    await me.context.addInitScript(script)
    await me.context.addCookies(session)
    await me.page.goto('/team')
    await live(me.page)
    const habit = await aHabit()
    await tick(habit)
    await once(me.page, habit)
    await me.context.close()
  })
})

describe('who is here', () => {
  it('is seen within about two seconds, and leaves ten seconds after the last page was closed', async () => {
    const me = await newPerson(browser, server)
    await me.context.addCookies(session)
    await me.page.goto('/team')
    const here = me.page.locator('[data-here]')
    const names = () => here.locator('p').textContent()
    // The ticker is Jonas.
    await expect.poll(names).toMatch(/^2 here now: .*Jonas/)

    const lena = await newPerson(browser, server, { viewport: phone, colorScheme: 'dark' })
    await signIn(lena.page, 'lena@demo.crewbeat.example', 'crewbeat-demo')
    const came = Date.now()
    await expect.poll(names, { interval: 50, timeout: 10_000 }).toMatch(/^3 here now: .*Lena/)
    expect(Date.now() - came).toBeLessThan(4000) // two seconds, on a machine that does much else
    await me.page.getByRole('listitem').filter({ hasText: 'Lena' }).getByText('Here now').waitFor()
    await expectAccessible(me.page, 'the team with people who are here')
    await lena.page.goto('/team')
    await lena.page.locator('[data-here]').waitFor()
    await expectAccessible(lena.page, 'the same on a phone in the dark')

    // A reload is not a leave.
    let left = false
    const watch = setInterval(() => void names().then((n) => (left ||= !/Lena/.test(n ?? ''))), 100)
    await lena.page.reload()
    await lena.page.locator('[data-here]').waitFor()
    clearInterval(watch)
    expect(left).toBe(false)

    const closed = Date.now()
    await lena.context.close()
    await expect.poll(names, { interval: 50, timeout: 40_000 }).toMatch(/^2 here now/)
    expect(Date.now() - closed).toBeGreaterThan(9000)
    expect(me.complaints).toEqual([])
    await me.context.close()
  })
})
