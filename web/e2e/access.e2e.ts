import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  createHabit,
  desktop,
  expectAccessible,
  fillRegistration,
  mira,
  newPerson,
  phone,
  register,
  type Server,
  signIn,
  startBrowser,
  startServer,
  todayCell,
} from './harness'

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

const go = (page: Page, name: string) => page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name }).click()

describe.each([
  { size: 'phone', viewport: phone, colorScheme: 'light' as const },
  { size: 'phone', viewport: phone, colorScheme: 'dark' as const },
  { size: 'desktop', viewport: desktop, colorScheme: 'light' as const },
  { size: 'desktop', viewport: desktop, colorScheme: 'dark' as const },
])('axe finds nothing serious, $size, $colorScheme', ({ size, viewport, colorScheme }) => {
  it('for visitors', async () => {
    const { page, context, complaints } = await newPerson(browser, server, { viewport, colorScheme })
    await page.goto('/login')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByText('Enter your password.').waitFor()
    await expectAccessible(page, 'sign-in with errors')
    await page.goto('/register')
    await page.getByRole('button', { name: 'Create account' }).click()
    await expectAccessible(page, 'registration with errors')
    await page.goto('/join#nothing')
    await page.getByRole('heading', { name: 'This invitation does not work any more' }).waitFor()
    await expectAccessible(page, 'a spent invitation')
    await page.goto('/nowhere')
    await page.getByRole('link', { name: 'Go to Today' }).waitFor()
    await expectAccessible(page, 'nowhere')
    await page.goto('/register')
    await fillRegistration(page, 'New', `axe.${size}.${colorScheme}@example.org`, 'a long enough password')
    await page.getByRole('button', { name: 'Skip for now' }).waitFor()
    await expectAccessible(page, 'first run')
    await page.getByRole('button', { name: 'Go for a run' }).click()
    await page.getByRole('button', { name: 'Start this habit' }).waitFor()
    await expectAccessible(page, 'first run, the schedule')
    await page.getByRole('button', { name: 'Skip for now' }).click()
    await page.getByRole('heading', { name: 'A week full of possibilities' }).waitFor()
    await expectAccessible(page, 'an empty Today')
    await go(page, 'Team')
    await page.getByRole('heading', { name: 'Better together' }).waitFor()
    await expectAccessible(page, 'no team')
    expect(complaints).toEqual([])
    await context.close()
  })

  it('for members', async () => {
    const { page, context, complaints } = await newPerson(browser, server, { viewport, colorScheme })
    await signIn(page, ...mira)
    await page.getByRole('grid').waitFor()
    await expectAccessible(page, 'Today')
    await page.locator('[data-row="0"][data-column="0"]').click()
    await page.getByRole('button', { name: 'Undo' }).waitFor()
    await expectAccessible(page, 'Today with a message')
    await page.getByRole('button', { name: 'Undo' }).click()
    await page
      .getByRole('button', { name: /^More for/ })
      .first()
      .click()
    await page.getByRole('menuitem', { name: 'Archive' }).waitFor()
    await expectAccessible(page, 'a menu')
    await page.getByRole('menuitem', { name: 'Archive' }).click()
    await page.getByRole('dialog').waitFor()
    await expectAccessible(page, 'the question before archiving')
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'New habit' }).click()
    await page.getByRole('dialog').getByRole('radio', { name: 'Amount' }).click()
    await page
      .getByRole('dialog')
      .getByRole('radio', { name: /Some teams/ })
      .click()
    await page.getByRole('button', { name: 'Create habit' }).click()
    await page.getByText('Give the habit a name').waitFor()
    await expectAccessible(page, 'a new habit with errors')
    await page.keyboard.press('Escape')
    await go(page, 'Team')
    await page.locator('[data-activity]').first().waitFor()
    await expectAccessible(page, 'Team')
    await page.getByRole('button', { name: 'Invite', exact: true }).click()
    await page.getByRole('button', { name: 'Create link' }).click()
    await page.getByLabel('Invitation link').waitFor()
    await expectAccessible(page, 'an invitation')
    await page.keyboard.press('Escape')
    await go(page, 'Settings')
    await page.getByText('This one, in use now').waitFor()
    await expectAccessible(page, 'Settings')
    await page.route('**/api/health', (route) => route.fulfill({ json: { status: 'degraded', redis: 'down', version: 'x' } }))
    await page.route('**/api/v1/dashboard*', (route) => route.fulfill({ status: 500, body: '' }))
    await page.goto('/')
    await page.getByRole('heading', { name: 'Your week did not load' }).waitFor()
    await page.getByText('Degraded: slower, nothing lost.').waitFor()
    await expectAccessible(page, 'degraded, with an error')
    expect(complaints).toEqual([])
    await context.close()
  })
})

describe('with the keyboard alone', () => {
  it('somebody signs in, makes a habit, ticks it, moves over the grid and undoes', async () => {
    const { page, context, complaints } = await newPerson(browser, server)
    const account = await register(page, 'Keys')
    await context.clearCookies()
    await page.goto('/login')
    const { keyboard } = page
    const tabTo = async (name: RegExp) => {
      for (let i = 0; i < 60; i++) {
        await keyboard.press('Tab')
        const focused = await page.evaluate(() => {
          const e = document.activeElement
          if (!(e instanceof HTMLElement)) return ''
          const label = e.id ? document.querySelector(`label[for="${CSS.escape(e.id)}"]`)?.textContent : undefined
          return e.getAttribute('aria-label') ?? label ?? e.innerText
        })
        if (name.test(focused)) return
      }
      throw new Error(`Tab never came to ${name}`)
    }

    await tabTo(/^E-mail/)
    await keyboard.type(account.email)
    await tabTo(/^Password/)
    await keyboard.type(account.password)
    await keyboard.press('Enter')
    await page.getByRole('button', { name: 'New habit' }).waitFor()

    await tabTo(/^New habit$/)
    await keyboard.press('Enter')
    await page.getByRole('dialog').waitFor()
    // The dialog takes the focus, on its first field or its way out.
    if (!(await page.evaluate(() => document.activeElement?.tagName === 'INPUT'))) await tabTo(/^What do you want to do/)
    await keyboard.type('Learn to sail')
    await keyboard.press('Enter')
    await page.getByRole('rowheader', { name: 'Learn to sail' }).waitFor()
    // And gives it back.
    const focused = () =>
      page.evaluate(() => (document.activeElement as HTMLElement).getAttribute('aria-label') ?? document.activeElement?.textContent)
    await expect.poll(focused).toBe('New habit')
    await tabTo(/^More for Learn to sail$/)
    await keyboard.press('Enter')
    await page.getByRole('menuitem', { name: 'Edit or share' }).waitFor()
    await keyboard.press('ArrowDown')
    await keyboard.press('Enter')
    await page.getByRole('dialog').waitFor()
    await keyboard.press('Escape')
    await expect.poll(focused).toBe('More for Learn to sail')
    await page.locator('body').press('Home')
    await page.getByRole('button', { name: 'New habit' }).focus()

    await tabTo(/^Learn to sail, .*due/)
    await keyboard.press('Space')
    const cell = todayCell(page, 'Learn to sail')
    await expect.poll(() => cell.getAttribute('aria-pressed')).toBe('true')

    const column = () => page.evaluate(() => (document.activeElement as HTMLElement).dataset.column)
    await keyboard.press('Home')
    expect(await column()).toBe('0')
    await keyboard.press('ArrowRight')
    expect(await column()).toBe('1')
    await keyboard.press('ArrowLeft')
    await keyboard.press('ArrowLeft')
    expect(await column()).toBe('0')
    await keyboard.press('End')
    expect(await column()).toBe('6')

    await keyboard.press('F8') // to the messages
    await tabTo(/^Undo$/)
    await keyboard.press('Enter')
    await expect.poll(() => cell.getAttribute('aria-pressed')).toBe('false')
    expect(complaints).toEqual([])
    await context.close()
  })

  it('a habit’s row is one stop for Tab, whatever the number of days', async () => {
    const { page, context } = await newPerson(browser, server)
    await register(page, 'Rover')
    await createHabit(page, 'One')
    await createHabit(page, 'Two')
    expect(await page.locator('[data-column][tabindex="0"]').count()).toBe(1)
    await page.locator('[data-column][tabindex="0"]').focus()
    await page.keyboard.press('ArrowDown')
    expect(await page.evaluate(() => (document.activeElement as HTMLElement).dataset.row)).toBe('1')
    expect(await page.locator('[data-column][tabindex="0"]').count()).toBe(1)
    await context.close()
  })

  it('a new page is read from its title', async () => {
    const { page, context } = await newPerson(browser, server)
    await signIn(page, ...mira)
    await page.keyboard.press('Tab')
    await page.keyboard.press('Tab')
    await go(page, 'Settings')
    await expect.poll(() => page.evaluate(() => document.activeElement?.textContent)).toBe('Settings')
    expect(await page.title()).toBe('Settings · Crewbeat')
    await context.close()
  })
})
