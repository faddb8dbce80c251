import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, test } from 'vitest'
import {
  desktop,
  fillRegistration,
  jonas,
  lena,
  mira,
  newPerson,
  phone,
  type Redis,
  type Server,
  signIn,
  startBrowser,
  startRedis,
  startServer,
} from './harness'

// Takes the pictures that people look at: each screen, phone and desktop, light and dark.

const folder = process.env.SCREENS_DIR ?? path.join(path.dirname(fileURLToPath(import.meta.url)), '../../docs/screens')

let redis: Redis
let server: Server
let browser: Browser

beforeAll(async () => {
  await mkdir(folder, { recursive: true })
  redis = await startRedis()
  server = await startServer({ demo: true, env: { REDIS_URL: redis.url, REDIS_HEALTH_CHECK_INTERVAL: '1000' } })
  browser = await startBrowser()
  // Those who are here while the pictures are taken.
  for (const [email, password] of [jonas, lena]) {
    const { page } = await newPerson(browser, server)
    await signIn(page, email, password)
  }
})
afterAll(async () => {
  await browser?.close()
  await server?.destroy()
  await redis?.kill()
})

for (const [size, viewport] of Object.entries({ phone, desktop })) {
  for (const colorScheme of ['light', 'dark'] as const) {
    test(`${size}, ${colorScheme}`, async () => {
      const open = async () => {
        const person = await newPerson(browser, server, { viewport, colorScheme, touch: size === 'phone' })
        // The file of a shared worker is never seen to have arrived: the network would not become idle.
        await person.context.addInitScript(() => Reflect.deleteProperty(globalThis, 'SharedWorker'))
        return person
      }
      const shoot = async (page: Page, name: string) => {
        await page.waitForLoadState('networkidle')
        await page.evaluate(() => document.fonts.ready)
        await page.screenshot({ path: path.join(folder, `${name}-${size}-${colorScheme}.png`), animations: 'disabled' })
      }

      const visitor = await open()
      await visitor.page.goto('/login')
      await shoot(visitor.page, 'sign-in')
      await visitor.page.goto('/register')
      await fillRegistration(visitor.page, 'Noor Haddad', `noor.${size}.${colorScheme}@example.org`, 'a long enough password')
      await visitor.page.getByRole('button', { name: 'Skip for now' }).waitFor()
      await shoot(visitor.page, 'first-run')
      await visitor.page.getByRole('button', { name: 'Skip for now' }).click()
      await visitor.page.getByRole('heading', { name: 'A week full of possibilities' }).waitFor()
      await shoot(visitor.page, 'today-empty')
      await visitor.context.close()

      const { page, context } = await open()
      await signIn(page, ...mira)
      await page.getByRole('grid').waitFor()
      await shoot(page, 'today')
      await page.getByRole('button', { name: 'New habit' }).click()
      await page.getByLabel('What do you want to do?').fill('Call a friend')
      await page.getByLabel('How often').selectOption('weekdays')
      await shoot(page, 'new-habit')
      await page.keyboard.press('Escape')
      await page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Team' }).click()
      await page.getByRole('heading', { name: 'Harbor Crew' }).waitFor()
      await page.getByRole('list').first().waitFor()
      await page.getByText('3 here now').first().waitFor()
      await shoot(page, 'team')
      await page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Settings' }).click()
      await page.getByText('This one, in use now').waitFor()
      await shoot(page, 'settings')
      await page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Admin' }).click()
      const servers = page.getByRole('region', { name: 'Servers', exact: true })
      await servers.getByText('Memory used', { exact: true }).waitFor({ timeout: 30_000 })
      const diagnose = page.getByRole('region', { name: 'Diagnose', exact: true })
      await diagnose.getByRole('button', { name: 'Diagnose: Memory' }).click()
      await diagnose.getByText('What to do').first().waitFor({ timeout: 30_000 })
      // It asks every five seconds: the network is never idle for long.
      await page.screenshot({
        path: path.join(folder, `admin-${size}-${colorScheme}.png`),
        animations: 'disabled',
        fullPage: size === 'desktop',
      })
      await context.close()
    })
  }
}
