import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import {
  desktop,
  expectAccessible,
  jonas,
  mira,
  newPerson,
  type Person,
  phone,
  type Redis,
  type Server,
  signIn,
  startBrowser,
  startRedis,
  startServer,
} from './harness'

let redis: Redis
let server: Server
let browser: Browser
let me: Person

beforeAll(async () => {
  redis = await startRedis()
  server = await startServer({ demo: true, env: { REDIS_URL: redis.url, REDIS_HEALTH_CHECK_INTERVAL: '500' } })
  browser = await startBrowser()
})
afterAll(async () => {
  await browser?.close()
  await server?.destroy()
  await redis?.kill()
})
afterEach(async () => {
  expect(me.complaints).toEqual([])
  await me.context.close()
})

const openAdmin = async () => {
  await me.page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Admin' }).click()
  await me.page.getByRole('heading', { name: 'Redis & cache' }).waitFor()
  await me.page.getByRole('heading', { name: 'Key inspector' }).waitFor({ timeout: 30_000 })
}

it('is for admins only', async () => {
  me = await newPerson(browser, server)
  await signIn(me.page, ...jonas)
  expect(await me.page.getByRole('link', { name: 'Admin' }).count()).toBe(0)
  await me.page.goto('/admin')
  await me.page.getByRole('heading', { name: 'For admins only' }).waitFor()
})

/** Signs the admin in, and has the inspector show that memory has her habits. */
async function inspectOwnHabits() {
  me = await newPerson(browser, server)
  const { page } = me
  await signIn(page, ...mira)
  const { id } = (await (await page.request.get('/api/v1/me')).json()) as { id: string }
  await page.request.get('/api/v1/habits') // caches them
  await openAdmin()
  const inspector = page.getByRole('region', { name: 'Key inspector' })
  await inspector.getByLabel('Cache').selectOption('habits')
  await inspector.getByLabel('Key').fill(id)
  await inspector.getByRole('button', { name: 'Look it up' }).click()
  await inspector.getByText('Memory has it', { exact: true }).waitFor()
  return { page, id, inspector }
}

it('shows a key in both tiers, and drops a tag after asking, with a note in the log', async () => {
  const { page, id, inspector } = await inspectOwnHabits()
  await inspector.getByText(`habits:${id}`).waitFor()

  await page.getByLabel('Tag', { exact: true }).fill(`habits:${id}`)
  await page.getByRole('button', { name: 'Invalidate…' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText(`every entry with the tag habits:${id}`).waitFor()
  await expectAccessible(page, 'the confirmation')
  await dialog.getByRole('button', { name: 'Keep it' }).click()
  await dialog.waitFor({ state: 'hidden' })
  await inspector.getByRole('button', { name: 'Look it up' }).click()
  await inspector.getByText('Memory has it', { exact: true }).waitFor()

  await page.getByRole('button', { name: 'Invalidate…' }).click()
  await dialog.getByRole('button', { name: 'Drop it' }).click()
  await page.getByText('Dropped everywhere', { exact: true }).waitFor()
  await page.getByRole('region', { name: 'Audit log' }).getByText('cache.invalidate').first().waitFor()
  await inspector.getByRole('button', { name: 'Look it up' }).click()
  await inspector.getByText('Not cached', { exact: true }).waitFor()
})

it('drops what begins alike, after asking, with a note in the log', async () => {
  const { page, id, inspector } = await inspectOwnHabits()

  const invalidate = page.getByRole('region', { name: 'Invalidate', exact: true })
  await invalidate.getByLabel('What').selectOption('prefix')
  await invalidate.getByLabel('In the cache').selectOption('habits')
  await invalidate.getByLabel('Beginning of the key').fill(id.slice(0, 8))
  await invalidate.getByRole('button', { name: 'Invalidate…' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText(id.slice(0, 8)).waitFor()
  await dialog.getByText('noted in the audit log with your name').waitFor()
  await expectAccessible(page, 'the confirmation of a prefix')
  await dialog.getByRole('button', { name: 'Drop it' }).click()
  await page.getByText('Dropped everywhere (1 entry)', { exact: true }).waitFor()
  await page.getByRole('region', { name: 'Audit log' }).getByText(id.slice(0, 8)).first().waitFor()
  await inspector.getByRole('button', { name: 'Look it up' }).click()
  await inspector.getByText('Not cached', { exact: true }).waitFor()
})

it('diagnoses an area at a press, and shows the servers and the commands, which begin anew', async () => {
  me = await newPerson(browser, server)
  const { page } = me
  await signIn(page, ...mira)
  await openAdmin()
  const diagnose = page.getByRole('region', { name: 'Diagnose', exact: true })
  for (const area of ['Connection', 'Memory', 'Performance']) {
    await diagnose.getByRole('button', { name: `Diagnose: ${area}` }).click()
    await diagnose.getByText(`${area.toLowerCase()}, by`).waitFor({ timeout: 30_000 })
    // The server of the tests has no limit of memory, so there is a finding.
    if (area === 'Memory') {
      await diagnose.getByText('memory.no_limit').waitFor()
      await diagnose.getByText('What to do').first().waitFor()
    }
  }
  const servers = page.getByRole('region', { name: 'Servers', exact: true })
  for (const text of ['Memory used', 'Evicted', 'Last snapshot', 'Slow log', 'Keys that never expire', 'No replicas.'])
    await servers.getByText(text, { exact: true }).waitFor({ timeout: 30_000 })
  const commands = page.getByRole('region', { name: 'Commands', exact: true })
  await commands
    .getByRole('cell', { name: 'GET', exact: true })
    .or(commands.getByRole('cell', { name: 'PIPELINE' }))
    .first()
    .waitFor()
  await expectAccessible(page, 'a diagnosis')
  await commands.getByRole('button', { name: 'Begin the profile anew' }).click()
  await page.getByText('The profile begins anew', { exact: true }).waitFor()
  await page.getByRole('region', { name: 'Audit log' }).getByText('redis.profile.reset').first().waitFor()
})

it('says that Redis has died while it is looked at, and that it is back', async () => {
  me = await newPerson(browser, server, { colorScheme: 'dark' })
  const { page } = me
  await signIn(page, ...mira)
  await openAdmin()
  const card = page.getByRole('region', { name: 'Redis' })
  await card.getByText('Up', { exact: true }).waitFor({ timeout: 30_000 })
  await redis.kill()
  await card.getByText('Down', { exact: true }).waitFor({ timeout: 45_000 })
  await card.getByText('connection refused').waitFor()
  await expectAccessible(page, 'the admin page without Redis')
  await redis.start()
  await card.getByText('Up', { exact: true }).waitFor({ timeout: 45_000 })
}, 150_000)

it('shows an alert with what to do about it, until somebody has seen it', async () => {
  const gone = await startRedis()
  await gone.kill()
  const alone = await startServer({ demo: true, env: { REDIS_URL: gone.url } })
  try {
    me = await newPerson(browser, alone)
    const { page } = me
    await signIn(page, ...mira)
    await openAdmin()
    const alerts = page.getByRole('region', { name: 'Alerts' })
    const name = /^Acknowledge: Redis cannot be reached/
    await alerts.getByRole('button', { name }).waitFor({ timeout: 60_000 })
    expect(await alerts.getByRole('link', { name: 'What to do' }).getAttribute('href')).toMatch(/operations\.md#redis_away$/)
    await expectAccessible(page, 'an alert')
    await alerts.getByRole('button', { name }).click()
    await page.getByText('Noted that you have seen it', { exact: true }).waitFor()
    await alerts.getByText(/^Seen /).waitFor()
    expect(await alerts.getByRole('button', { name }).count()).toBe(0)
    await page.getByRole('region', { name: 'Audit log' }).getByText('alert.acknowledge').first().waitFor()
  } finally {
    await alone.destroy()
  }
}, 150_000)

it('is of use without a Redis: memory only', async () => {
  const alone = await startServer({ demo: true })
  try {
    me = await newPerson(browser, alone)
    const { page } = me
    await signIn(page, ...mira)
    const { id } = (await (await page.request.get('/api/v1/me')).json()) as { id: string }
    await page.request.get('/api/v1/habits')
    await openAdmin()
    await page.getByRole('region', { name: 'Redis' }).getByText('No Redis: memory only', { exact: true }).waitFor()
    await page.getByRole('region', { name: 'Cache', exact: true }).getByText('No Redis: memory only', { exact: true }).waitFor()
    await page.getByText('Nothing is watched where there is no Redis.').waitFor()
    for (const absent of ['Diagnose', 'Commands']) expect(await page.getByRole('region', { name: absent, exact: true }).count()).toBe(0)
    const inspector = page.getByRole('region', { name: 'Key inspector' })
    await inspector.getByLabel('Cache').selectOption('habits')
    await inspector.getByLabel('Key').fill(id)
    await inspector.getByRole('button', { name: 'Look it up' }).click()
    await inspector.getByText('Memory has it', { exact: true }).waitFor()
    await page.getByLabel('Tag', { exact: true }).fill(`habits:${id}`)
    await page.getByRole('button', { name: 'Invalidate…' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Drop it' }).click()
    await page.getByRole('region', { name: 'Audit log' }).getByText('cache.invalidate').first().waitFor()
    await inspector.getByRole('button', { name: 'Look it up' }).click()
    await inspector.getByText('Not cached', { exact: true }).waitFor()
    await expectAccessible(page, 'the admin page in memory only')
  } finally {
    await alone.destroy()
  }
}, 90_000)

for (const [size, viewport] of Object.entries({ phone, desktop })) {
  for (const colorScheme of ['light', 'dark'] as const) {
    it(`is accessible and fits: ${size}, ${colorScheme}`, async () => {
      me = await newPerson(browser, server, { viewport, colorScheme })
      const { page } = me
      await signIn(page, ...mira)
      await openAdmin()
      await expectAccessible(page, `the admin page, ${size}, ${colorScheme}`)
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
    })
  }
}
