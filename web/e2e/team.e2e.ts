import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  createHabit,
  type Network,
  newPerson,
  type Person,
  register,
  type Server,
  startBrowser,
  startNetwork,
  startServer,
  todayCell,
} from './harness'

let server: Server
let network: Network
let browser: Browser
let ana: Person
/** behind a network that can be cut */
let ben: Person

beforeAll(async () => {
  server = await startServer()
  network = await startNetwork(server)
  browser = await startBrowser()
  ana = await newPerson(browser, server)
  ben = await newPerson(browser, network)
})
afterAll(async () => {
  await browser?.close()
  await network?.cut()
  await server?.destroy()
})

const toTeam = (page: Page) => page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Team' }).click()
const toToday = (page: Page) => page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Today' }).click()
const lines = (page: Page, habit: string) => page.locator('[data-activity]').filter({ hasText: habit })

/** Ticks or opens today's cell and waits until the server has it. */
async function tap(page: Page, habit: string) {
  const answered = page.waitForResponse((r) => /\/records\//.test(r.url()) && r.ok())
  await todayCell(page, habit).click()
  await answered
}

describe('a team', () => {
  it('is founded, and a second person joins by its link', async () => {
    await register(ana.page, 'Ana Silva')
    await toTeam(ana.page)
    await ana.page.getByRole('heading', { name: 'Better together' }).waitFor()
    await ana.page.getByRole('button', { name: 'Create a team' }).click()
    await ana.page.getByRole('button', { name: 'Create team' }).click()
    await ana.page.getByText('Give the team a name.').waitFor()
    await ana.page.getByLabel('Name of the team').fill('Night Watch')
    await ana.page.getByRole('button', { name: 'Create team' }).click()
    await ana.page.getByRole('heading', { name: 'Night Watch' }).waitFor()

    await ana.page.getByRole('button', { name: 'Invite', exact: true }).click()
    await ana.page.getByRole('button', { name: 'Create link' }).click()
    const link = await ana.page.getByLabel('Invitation link').inputValue()
    expect(link).toMatch(/\/join#.{20,}$/)
    await ana.page.getByRole('button', { name: 'Copy link' }).click()
    await ana.page.getByRole('button', { name: 'Copied' }).waitFor()
    expect(await ana.page.evaluate(() => navigator.clipboard.readText())).toBe(link)
    await ana.page.keyboard.press('Escape')

    const { pathname, hash } = new URL(link)
    await ben.page.goto(pathname + hash)
    await ben.page.getByText('Ana Silva invites you to').waitFor()
    await ben.page.getByRole('link', { name: 'Create an account' }).click()
    await ben.page.getByLabel('Your name').fill('Ben Okoro')
    await ben.page.getByLabel('E-mail address').fill('ben@example.org')
    await ben.page.getByLabel('Password').fill('a long enough password')
    await ben.page.getByRole('button', { name: 'Create account' }).click()
    await ben.page.getByRole('button', { name: 'Join as Ben Okoro' }).click()
    await ben.page.getByRole('heading', { name: 'Night Watch' }).waitFor()
    await ben.page.getByRole('heading', { name: 'All quiet' }).waitFor()

    // Ana sees the new member without a reload.
    await ana.page.getByRole('listitem').filter({ hasText: 'Ben Okoro' }).waitFor()
  })

  it('sees a tick within a second, without a reload, and sees it go when it is taken back', async () => {
    await toToday(ana.page)
    await createHabit(ana.page, 'Walk the deck', true)
    await ben.page.getByText('Live', { exact: true }).waitFor()

    const started = Date.now()
    await todayCell(ana.page, 'Walk the deck').click()
    await lines(ben.page, 'Walk the deck').waitFor({ timeout: 1000 })
    expect(Date.now() - started).toBeLessThan(1000)
    await expect.poll(() => ben.page.locator('[aria-live=polite]').allInnerTexts()).toContain('Ana Silva ticked Walk the deck')

    await todayCell(ana.page, 'Walk the deck').click()
    await lines(ben.page, 'Walk the deck').waitFor({ state: 'detached', timeout: 2000 })
  })

  it('keeps a private habit from everybody', async () => {
    await createHabit(ana.page, 'Secret diary')
    await tap(ana.page, 'Secret diary')
    await tap(ana.page, 'Walk the deck')
    // The shared one came after: had the private one come, it would be there.
    await lines(ben.page, 'Walk the deck').waitFor()
    expect(await ben.page.getByText('Secret diary').count()).toBe(0)
    await tap(ana.page, 'Walk the deck')
    await lines(ben.page, 'Walk the deck').waitFor({ state: 'detached' })
  })

  it('misses nothing and sees nothing twice after the connection was cut', async () => {
    await createHabit(ana.page, 'First watch', true)
    await createHabit(ana.page, 'Second watch', true)
    await tap(ana.page, 'First watch')
    await lines(ben.page, 'First watch').waitFor()

    await network.cut()
    await ben.page.getByText('Connecting…').waitFor()
    await tap(ana.page, 'Walk the deck')
    await tap(ana.page, 'Second watch')
    await tap(ana.page, 'First watch') // taken back meanwhile
    await network.heal()

    await ben.page.getByText('Live', { exact: true }).waitFor({ timeout: 30_000 })
    await lines(ben.page, 'Second watch').waitFor()
    await lines(ben.page, 'First watch').waitFor({ state: 'detached' })
    expect(await lines(ben.page, 'Walk the deck').count()).toBe(1)
    expect(await lines(ben.page, 'Second watch').count()).toBe(1)

    // And it is live as before.
    await tap(ana.page, 'First watch')
    await lines(ben.page, 'First watch').waitFor({ timeout: 1000 })
    expect(await lines(ben.page, 'First watch').count()).toBe(1)
  })

  it('shows the same after the server was restarted', async () => {
    await server.restart()
    await ben.page.getByText('Live', { exact: true }).waitFor({ timeout: 30_000 })
    await tap(ana.page, 'First watch')
    await lines(ben.page, 'First watch').waitFor({ state: 'detached' })
    await tap(ana.page, 'First watch')
    await lines(ben.page, 'First watch').waitFor({ timeout: 2000 })
    expect(await lines(ben.page, 'Walk the deck').count()).toBe(1)
  })

  it('is the same person’s in two windows: a tick in one shows in the other', async () => {
    const second = await ana.context.newPage()
    await second.goto('/')
    const there = todayCell(second, 'Secret diary')
    await expect.poll(() => there.getAttribute('aria-pressed')).toBe('true')
    await tap(ana.page, 'Secret diary')
    await expect.poll(() => there.getAttribute('aria-pressed'), { timeout: 1000 }).toBe('false')
    await second.close()
  })

  it('is left, or somebody is taken out of it', async () => {
    await toTeam(ana.page)
    await ana.page.getByRole('button', { name: 'More for Ben Okoro' }).click()
    await ana.page.getByRole('menuitem', { name: 'Remove from team' }).click()
    await ana.page.getByText('Ben Okoro is no longer in Night Watch').first().waitFor()
    // Ben is told, and sees it no longer.
    await ben.page.getByRole('heading', { name: 'Better together' }).waitFor()
  })

  it('made neither browser complain', () => {
    expect(ana.complaints).toEqual([])
    expect(ben.complaints).toEqual([])
  })
})
