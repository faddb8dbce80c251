import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer as createHTTPServer, request as httpRequest } from 'node:http'
import { createRequire } from 'node:module'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { expect } from 'vitest'

const here = path.dirname(fileURLToPath(import.meta.url))
const binary = process.env.CREWBEAT_BIN ?? path.join(here, '../../bin/crewbeat')

/** A running Crewbeat with a data folder of its own. */
export type Server = {
  url: string
  /** Ends it as an operator would, and waits. */
  stop: () => Promise<void>
  /** Ends it, if it runs, and starts it again on the same address and data. */
  restart: () => Promise<void>
  /** Ends it and throws its data away. */
  destroy: () => Promise<void>
}

/** Starts the real binary on a free port. */
export async function startServer({ demo = false, env = {} }: { demo?: boolean; env?: Record<string, string> } = {}): Promise<Server> {
  const data = await mkdtemp(path.join(tmpdir(), 'crewbeat-e2e-'))
  let address = '127.0.0.1:0'
  let child: ChildProcess | undefined

  const start = async () => {
    const running = spawn(binary, ['serve', '--addr', address, '--data', data, `--demo=${demo}`], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LOG_LEVEL: 'warn', ...env },
    })
    child = running
    const url = await listening(running)
    address = new URL(url).host
    return url
  }
  const stop = async () => {
    if (child && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child?.once('exit', resolve))
      child.kill('SIGTERM')
      await gone
    }
    child = undefined
  }
  const url = await start()
  return {
    url,
    stop,
    restart: async () => {
      await stop()
      await start()
    },
    destroy: async () => {
      await stop()
      await rm(data, { recursive: true, force: true })
    },
  }
}

function listening(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = ''
    const timer = setTimeout(() => reject(new Error(`${binary} did not say where it listens within 30 s:\n${said}`)), 30_000)
    const read = (chunk: Buffer) => {
      said += chunk.toString()
      const url = /listening on (http:\/\/\S+)/.exec(said)?.[1]
      if (url) {
        clearTimeout(timer)
        resolve(url)
      }
    }
    child.stdout?.on('data', read)
    child.stderr?.on('data', read)
    child.once('error', (cause) => reject(new Error(`${binary} did not start; build it first or name it by CREWBEAT_BIN`, { cause })))
    child.once('exit', (code) => reject(new Error(`${binary} ended with ${code} before it listened:\n${said}`)))
  })
}

/** What a server measures: the sum over all labels. */
export async function metric(server: { url: string }, name: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  const values = [...text.matchAll(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, 'gm'))].map((m) => Number(m[1]))
  return values.reduce((a, b) => a + b, 0)
}

/** How many live connections a server counts. */
export function connections(server: { url: string }): Promise<number> {
  return metric(server, 'realtime_connections')
}

/** A network between a browser and the server that can fail. */
export type Network = {
  url: string
  /** Cuts every connection; no new one gets through. */
  cut: () => Promise<void>
  heal: () => Promise<void>
  /** What becomes of WebSockets: of new ones at first, and of those there are. */
  sockets: (may: 'pass' | 'be refused' | 'be swallowed') => void
  /** How many WebSockets have got through. */
  passed: () => number
}

/** Puts a network in front of a server. */
export async function startNetwork(server: Server): Promise<Network> {
  const to = new URL(server.url)
  const open = new Set<Socket>()
  let may: Parameters<Network['sockets']>[0] = 'pass'
  let passed = 0
  const proxy = createServer((near) => {
    const keep = (socket: Socket, other?: Socket) => {
      open.add(socket)
      socket.on('close', () => open.delete(socket))
      socket.on('error', () => [socket, other].forEach((s) => s?.destroy()))
    }
    keep(near)
    near.once('data', (first) => {
      if (first.toString('latin1').startsWith('GET /rt/v1/ws')) {
        if (may === 'be refused') return near.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')
        if (may === 'be swallowed') return
        passed++
      }
      const far = connect(Number(to.port), to.hostname)
      keep(far, near)
      far.write(first)
      near.pipe(far).pipe(near)
      near.on('close', () => far.destroy())
    })
  })
  const listen = (port: number) => new Promise<void>((resolve, reject) => proxy.once('error', reject).listen(port, '127.0.0.1', resolve))
  await listen(0)
  const { port } = proxy.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    cut: () =>
      new Promise((resolve) => {
        proxy.close(() => resolve())
        for (const socket of open) socket.destroy()
      }),
    heal: () => listen(port),
    sockets: (now) => void (may = now),
    passed: () => passed,
  }
}

/** A server whose page may become that of a newer build. */
export type Deploys = {
  url: string
  /** From now on the page is of another build: the files of the one before are gone. */
  deploy: () => void
  close: () => Promise<void>
}

/**
 * Puts builds in front of a server. Those after the first are the page of the
 * server under other names, worker and all, as a changed page would have them.
 */
export async function startDeploys(server: Server): Promise<Deploys> {
  let build = 1
  const rename = (text: string) => text.replaceAll(/\b((?:index|worker|admin-page|tracing)-[\w-]{8})\.js/g, `$1.${build}.js`)
  const proxy = createHTTPServer((request, response) => {
    void (async () => {
      const { pathname } = new URL(request.url ?? '/', server.url)
      const js = /^(\/assets\/.+?)(?:\.(\d+))?\.js$/.exec(pathname)
      if (js && Number(js[2] ?? 1) !== build) return response.writeHead(404).end()
      const page = js !== null || request.headers['sec-fetch-dest'] === 'document' || pathname === '/'
      if (build > 1 && page) {
        const answer = await fetch(server.url + (js ? `${js[1]}.js` : '/'))
        const headers = Object.fromEntries([...answer.headers].filter(([name]) => !/^(etag|content-(length|encoding)|date)$/.test(name)))
        return response.writeHead(answer.status, headers).end(rename(await answer.text()))
      }
      const { port, hostname } = new URL(server.url)
      const { method, url: path, headers } = request
      const on = httpRequest({ port, hostname, method, path, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      })
      on.on('error', () => response.destroy())
      response.on('close', () => on.destroy())
      request.pipe(on)
    })().catch(() => response.destroy())
  })
  proxy.on('upgrade', (request, near: Socket, head: Buffer) => {
    const to = new URL(server.url)
    const far = connect(Number(to.port), to.hostname)
    const head0 = [`GET ${request.url} HTTP/1.1`]
    for (let i = 0; i < request.rawHeaders.length; i += 2) head0.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`)
    far.write(`${head0.join('\r\n')}\r\n\r\n`)
    far.write(head)
    for (const socket of [near, far]) {
      socket.on('error', () => [near, far].forEach((s) => s.destroy()))
      socket.on('close', () => [near, far].forEach((s) => s.destroy()))
    }
    near.pipe(far).pipe(near)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const { port } = proxy.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    deploy: () => void build++,
    close: () =>
      new Promise((resolve) => {
        proxy.close(() => resolve())
        proxy.closeAllConnections()
      }),
  }
}

/** A real Redis that can be killed. */
export type Redis = { url: string; kill: () => Promise<void>; start: () => Promise<void> }

/** Starts redis-server on a free port. */
export async function startRedis(): Promise<Redis> {
  const port = await freePort()
  let child: ChildProcess | undefined
  const start = async () => {
    const running = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    child = running
    await new Promise<void>((resolve, reject) => {
      running.once('error', (cause) =>
        reject(new Error('redis-server did not start; install it (apt-get install redis-server)', { cause })),
      )
      running.stdout.on('data', (chunk: Buffer) => /Ready to accept connections/.test(chunk.toString()) && resolve())
    })
  }
  await start()
  return {
    url: `redis://127.0.0.1:${port}`,
    start,
    kill: () =>
      new Promise((resolve) => {
        if (!child || child.exitCode !== null || child.signalCode !== null) return resolve()
        child.once('exit', () => resolve())
        child.kill('SIGKILL')
      }),
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Starts the system's chromium. */
export function startBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env.CHROMIUM_PATH ?? '/usr/bin/chromium',
    // A sandbox cannot be had as root, which tests in containers are.
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  })
}

export const phone = { width: 390, height: 844 }
export const desktop = { width: 1440, height: 900 }

/** A browser window of its own: other cookies, other storage. */
export type Person = {
  page: Page
  context: BrowserContext
  /** What the browser complained about: errors of scripts, refusals by the page's policy. */
  complaints: string[]
}

/** Opens a window. */
export async function newPerson(
  browser: Browser,
  server: { url: string },
  options: { viewport?: { width: number; height: number }; colorScheme?: 'light' | 'dark'; touch?: boolean } = {},
): Promise<Person> {
  const context = await browser.newContext({
    baseURL: server.url,
    viewport: options.viewport ?? desktop,
    colorScheme: options.colorScheme ?? 'light',
    hasTouch: options.touch ?? false,
    locale: 'en-GB',
    timezoneId: 'Europe/Berlin',
    permissions: ['clipboard-read', 'clipboard-write'],
  })
  context.setDefaultTimeout(10_000)
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => {
    // What a server refuses, or a network that is off, the browser logs by itself.
    if (message.type() === 'error' && !/Failed to load resource|WebSocket connection|net::ERR/.test(message.text()))
      complaints.push(message.text())
  })
  return { page, context, complaints }
}

let people = 0

/** Registers somebody new and ends on the Today page. */
export async function register(page: Page, name: string): Promise<{ email: string; password: string }> {
  const email = `${name.toLowerCase().replaceAll(' ', '.')}.${++people}@example.org`
  const password = 'a long enough password'
  await page.goto('/register')
  await fillRegistration(page, name, email, password)
  await page.getByRole('button', { name: 'Skip for now' }).click()
  await page.getByRole('button', { name: 'New habit' }).waitFor()
  return { email, password }
}

/** Fills the form of a new account and sends it. */
export async function fillRegistration(page: Page, name: string, email: string, password: string): Promise<void> {
  await page.getByLabel('Your name').fill(name)
  await page.getByLabel('E-mail address').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Create account' }).click()
}

/** Signs somebody in and waits for the Today page. */
export async function signIn(page: Page, email: string, password: string): Promise<void> {
  await page.goto('/login')
  await page.getByLabel('E-mail address').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'New habit' }).waitFor()
}

export const mira = ['mira@demo.crewbeat.example', 'crewbeat-demo'] as const
export const jonas = ['jonas@demo.crewbeat.example', 'crewbeat-demo'] as const
export const lena = ['lena@demo.crewbeat.example', 'crewbeat-demo'] as const

/** Makes a habit that is due every day. */
export async function createHabit(page: Page, name: string, shared = false): Promise<void> {
  await page.getByRole('button', { name: 'New habit' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('What do you want to do?').fill(name)
  if (shared) await dialog.getByRole('radio', { name: /All my teams/ }).click()
  await dialog.getByRole('button', { name: 'Create habit' }).click()
  await dialog.waitFor({ state: 'hidden' })
  await page.getByRole('rowheader', { name }).waitFor()
}

/** Today's cell of a habit. */
export function todayCell(page: Page, habit: string) {
  const day = new Intl.DateTimeFormat('en-GB', { weekday: 'long', day: 'numeric', month: 'long', timeZone: 'Europe/Berlin' })
    .format()
    .replace(',', '')
  return page.getByRole('gridcell').getByRole('button', { name: new RegExp(`^${habit}, ${day.replace(' ', ',? ')}`) })
}

const axeSource = readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** Expects that axe finds nothing serious or critical on the page as it is. */
export async function expectAccessible(page: Page, where: string): Promise<void> {
  // Evaluated over the debugger: the page's policy refuses inline scripts, as it should.
  await page.evaluate(await axeSource)
  // Colours on their way from one to the other are not what anybody reads.
  await page.evaluate(() =>
    Promise.all(
      document
        .getAnimations()
        .filter((a) => a.effect?.getComputedTiming().iterations !== Infinity)
        .map((a) => a.finished.catch(() => undefined)),
    ),
  )
  const found = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run: (o: object) => Promise<AxeResults> } }
    const { violations } = await axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
    return violations
      .filter((v) => v.impact === 'serious' || v.impact === 'critical')
      .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html.slice(0, 160)} — ${n.failureSummary}`).join('\n  ')}`)
  })
  expect(found, `axe on ${where}`).toEqual([])
}

type AxeResults = { violations: { id: string; impact: string | null; nodes: { html: string; failureSummary: string }[] }[] }
