import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  createHabit,
  fillRegistration,
  newPerson,
  type Person,
  phone,
  register,
  type Server,
  startBrowser,
  startServer,
  todayCell,
} from './harness'

let server: Server
let browser: Browser
let me: Person

beforeAll(async () => {
  server = await startServer()
  browser = await startBrowser()
})
afterAll(async () => {
  await browser?.close()
  await server?.destroy()
})
beforeEach(async () => {
  me = await newPerson(browser, server)
})
afterEach(async () => {
  expect(me.complaints).toEqual([])
  await me.context.close()
})

describe('somebody new', () => {
  it('registers, is led to a first habit, ticks it, sees the streak and takes it back', async () => {
    const { page } = me
    await page.goto('/')
    await page.getByRole('link', { name: 'Create an account' }).click()
    await fillRegistration(page, 'Ida Berg', 'ida@example.org', 'a long enough password')

    await page.getByRole('button', { name: 'Read 20 pages' }).click()
    await page.getByText('Next due today').waitFor()
    await page.getByRole('button', { name: 'Start this habit' }).click()

    const cell = todayCell(page, 'Read 20 pages')
    await cell.click()
    await expect.poll(() => cell.getAttribute('aria-pressed')).toBe('true')
    await page.getByRole('img', { name: /^Streak: 1 day, best 1 day$/ }).waitFor()
    await page.getByRole('img', { name: 'Today: 1 of 1 done' }).waitFor()

    await page.getByRole('button', { name: 'Undo' }).click()
    await expect.poll(() => cell.getAttribute('aria-pressed')).toBe('false')
    await page.getByRole('img', { name: /^No streak/ }).waitFor()

    await page.reload()
    await expect.poll(() => cell.getAttribute('aria-pressed')).toBe('false')
  })

  it('does it all on a phone, with one thumb', async () => {
    const mobile = await newPerson(browser, server, { viewport: phone, touch: true })
    await register(mobile.page, 'Thumb')
    await createHabit(mobile.page, 'Water the plants')
    const cell = todayCell(mobile.page, 'Water the plants')
    await cell.tap()
    await expect.poll(() => cell.getAttribute('aria-pressed')).toBe('true')

    // A long press opens the menu of the day, and is not a tap as well.
    const box = await cell.boundingBox()
    const touch = await mobile.context.newCDPSession(mobile.page)
    const at = { x: (box?.x ?? 0) + 20, y: (box?.y ?? 0) + 20 }
    await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [at] })
    await mobile.page.getByRole('menuitem', { name: 'Skip this day' }).waitFor()
    await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] })
    expect(await cell.getAttribute('aria-pressed')).toBe('true')
    await mobile.page.getByRole('menuitem', { name: 'Skip this day' }).tap()
    await expect.poll(() => cell.getAttribute('aria-label')).toContain('skipped')

    const small = await mobile.page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement>('button, a[href], input, select')]
        .filter((e) => e.checkVisibility() && !e.closest('.sr-only') && !e.classList.contains('sr-only'))
        .map((e) => ({ name: e.getAttribute('aria-label') ?? e.innerText, box: e.getBoundingClientRect() }))
        .filter(({ box }) => box.height < 43.5)
        .map(({ name, box }) => `${name}: ${box.width} × ${box.height}`),
    )
    expect(small, 'targets lower than 44 px').toEqual([])
    expect(await mobile.page.evaluate(() => document.documentElement.scrollWidth), 'no sideways scrolling').toBe(phone.width)
    expect(mobile.complaints).toEqual([])
    await mobile.context.close()
  })
})

describe('a habit', () => {
  it('shows what its schedule comes to while it is picked', async () => {
    const { page } = me
    await register(page, 'Previewer')
    await page.getByRole('button', { name: 'New habit' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('How often').selectOption('weekdays')
    for (const day of ['Monday', 'Wednesday', 'Friday']) await dialog.getByRole('button', { name: day }).click()
    await dialog.getByText('Pick at least one day').waitFor()
    await dialog.getByRole('button', { name: 'Monday' }).click()
    await dialog.getByText(/Next due .*(Mon|today)/).waitFor()
    await dialog.getByLabel('How often').selectOption('n_per_week')
    await dialog.getByText('Any 3 days of each week').waitFor()
    await dialog.getByRole('button', { name: 'More', exact: true }).click()
    await dialog.getByText('Any 4 days of each week').waitFor()
  })

  it('is edited and archived', async () => {
    const { page } = me
    await register(page, 'Editor')
    await createHabit(page, 'Jog')
    await page.getByRole('button', { name: 'More for Jog' }).click()
    await page.getByRole('menuitem', { name: 'Edit or share' }).click()
    await page.getByLabel('What do you want to do?').fill('Run')
    await page.getByLabel('How often').selectOption('every_n_days')
    await page.getByRole('button', { name: 'Save' }).click()
    await page.getByRole('rowheader', { name: 'Run Every 2 days' }).waitFor()

    await page.getByRole('button', { name: 'More for Run' }).click()
    await page.getByRole('menuitem', { name: 'Archive' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Archive' }).click()
    await page.getByRole('heading', { name: 'A week full of possibilities' }).waitFor()
  })

  it('with an amount takes part of it, all of it, or a skip', async () => {
    const { page } = me
    await register(page, 'Counter')
    await page.getByRole('button', { name: 'New habit' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('What do you want to do?').fill('Read')
    await dialog.getByRole('radio', { name: 'Amount' }).click()
    await dialog.getByLabel('Goal a day').fill('20')
    await dialog.getByLabel('Of what').fill('pages')
    await dialog.getByRole('button', { name: 'Create habit' }).click()

    const cell = todayCell(page, 'Read')
    await cell.click({ button: 'right' })
    await page.getByRole('menuitem', { name: 'Enter an amount…' }).click()
    await page.getByLabel('pages').fill('12')
    await page.getByRole('button', { name: 'Save' }).click()
    await expect.poll(() => cell.getAttribute('aria-label')).toContain('12 of 20 pages')

    await cell.click({ button: 'right' })
    await page.getByRole('menuitem', { name: 'Skip this day' }).click()
    await expect.poll(() => cell.getAttribute('aria-label')).toContain('skipped')
    await cell.click()
    await expect.poll(() => cell.getAttribute('aria-label')).toContain('due, not done yet')
    await cell.click()
    await expect.poll(() => cell.getAttribute('aria-label')).toMatch(/: done$/)
  })

  it('can be ticked for a day of the week before', async () => {
    const { page } = me
    await register(page, 'Late')
    await createHabit(page, 'Stretch')
    await page.getByRole('button', { name: 'Week before' }).click()
    await page.getByRole('button', { name: 'Back to today' }).waitFor()
    const first = page.locator('[data-row="0"][data-column="0"]')
    await first.click()
    await expect.poll(() => first.getAttribute('aria-pressed')).toBe('true')
    await page.reload()
    await expect.poll(() => first.getAttribute('aria-label')).toMatch(/: done$/)
    await page.getByRole('button', { name: 'Week after' }).click()
    await page.getByText('This week').first().waitFor()
  })
})

describe('bad input', () => {
  it('in the registration is answered at the field, by the page and by the server', async () => {
    const { page } = me
    await page.goto('/register')
    await page.getByRole('button', { name: 'Create account' }).click()
    await page.getByText('Tell us what to call you.').waitFor()
    await page.getByText('Enter your e-mail address.').waitFor()
    await page.getByText('Choose a password of at least ten characters.').waitFor()
    await fillRegistration(page, 'Ida', 'ida', 'short')
    await page.getByText('This is not an e-mail address.').waitFor()
    await page.getByText('5 more characters, please').waitFor()
    expect(await page.getByLabel('Password').getAttribute('aria-invalid')).toBe('true')

    await fillRegistration(page, 'First', 'twice@example.org', 'a long enough password')
    await page.getByRole('button', { name: 'Skip for now' }).waitFor()
    await page.context().clearCookies()
    await page.goto('/register')
    await fillRegistration(page, 'Second', 'TWICE@example.org', 'a long enough password')
    await page.getByText('There is an account with this address already.').waitFor()
  })

  it('in signing in does not tell which part was wrong', async () => {
    const { page } = me
    await page.goto('/login')
    await page.getByLabel('E-mail address').fill('nobody@example.org')
    await page.getByLabel('Password').fill('not the password')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('alert').getByText('E-mail address or password is wrong.').waitFor()
  })

  it('in a habit is answered at the field', async () => {
    const { page } = me
    await register(page, 'Empty')
    await page.getByRole('button', { name: 'New habit' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Create habit' }).click()
    await page.getByText('Give the habit a name').waitFor()
    await page.getByRole('radio', { name: 'Amount' }).click()
    await page.getByLabel('Goal a day').fill('many')
    await page.getByText('Enter a number above 0.').waitFor()
  })

  it('in an address leads to a page that says so, and back', async () => {
    const { page } = me
    await register(page, 'Lost')
    await page.goto('/nowhere')
    await page.getByRole('link', { name: 'Go to Today' }).click()
    await page.getByRole('button', { name: 'New habit' }).waitFor()
  })

  it('in an invitation link says that it does not work', async () => {
    const { page } = me
    await page.goto('/join#not-a-token')
    await page.getByRole('heading', { name: 'This invitation does not work any more' }).waitFor()
  })
})

describe('the settings', () => {
  it('keep what is changed, follow the theme and end other sessions', async () => {
    const { page } = me
    const account = await register(page, 'Settler')
    const other = await newPerson(browser, server)
    await other.page.goto('/login')
    await other.page.getByLabel('E-mail address').fill(account.email)
    await other.page.getByLabel('Password').fill(account.password)
    await other.page.getByRole('button', { name: 'Sign in' }).click()
    await other.page.getByRole('button', { name: 'New habit' }).waitFor()

    await page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Settings' }).click()
    await page.getByLabel('Name').fill('Settler the Second')
    await page.getByLabel('Your week begins on').selectOption('0')
    await page.getByRole('button', { name: 'Save changes' }).click()
    await page.getByText('Your settings are saved').first().waitFor()

    await page.getByRole('radio', { name: 'Dark' }).click()
    expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe('dark')
    await page.reload()
    expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe('dark')
    await expect.poll(() => page.getByLabel('Name').inputValue()).toBe('Settler the Second')

    await page
      .getByRole('button', { name: /^End the session on/ })
      .first()
      .click()
    await page.getByText('That session has ended').first().waitFor()
    // Nobody touches the other window: it is told.
    await other.page.getByRole('button', { name: 'Sign in' }).waitFor()
    await other.context.close()

    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByRole('button', { name: 'Sign in' }).waitFor()
    await page.goto('/settings')
    await page.getByRole('button', { name: 'Sign in' }).waitFor()
  })
})
