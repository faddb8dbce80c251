// A client of Crewbeat's events for Node 20 and later, without dependencies.
// The protocol is in events.md.
//
//   CREWBEAT_URL=http://localhost:8080 CREWBEAT_COOKIE='crewbeat.sid=…' \
//     node events-client.mjs team:ID:activity user:ID:habits
//
// Without channels it follows all that is yours. It prints one line of JSON for
// each message, and ends when the server says so.

import { pathToFileURL } from 'node:url'

// parse yields the events of a stream, as the HTML standard reads them.
async function* parse(body) {
  let text = ''
  let id
  let data = []
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    text += chunk
    const lines = text.split('\n')
    text = lines.pop() ?? '' // not complete yet
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { id, message: JSON.parse(data.join('\n')) }
        data = []
        continue
      }
      const colon = line.indexOf(':')
      const field = colon < 0 ? line : line.slice(0, colon)
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
      if (field === 'data') data.push(value)
      if (field === 'id') id = value
      if (field === 'retry') yield { retry: Number(value) }
    }
  }
}

// follow yields every message of the channels, over as many connections as it
// takes. headers say who asks: a Cookie, or an Authorization with a ticket.
export async function* follow(base, channels, headers = {}, signal = undefined) {
  let cursor // where this client stands in all channels
  let retry = 1000
  const seen = new Set() // ids of events, since a reset may bring some again
  for (let failures = 0; !signal?.aborted; failures++) {
    if (failures > 0) {
      const most = Math.min(30_000, retry * 2 ** Math.min(failures - 1, 10))
      await new Promise((done) => setTimeout(done, Math.random() * most))
    }
    try {
      const url = new URL('/rt/v1/events', base)
      if (channels.length > 0) url.searchParams.set('channels', channels.join(','))
      else url.searchParams.set('own', '1')
      const answer = await fetch(url, {
        headers: { Accept: 'text/event-stream', ...headers, ...(cursor ? { 'Last-Event-ID': cursor } : {}) },
        signal,
      })
      if (answer.status === 204) return
      if (answer.status >= 400 && answer.status < 500) {
        const problem = await answer.json()
        throw Object.assign(new Error(`${problem.code}: ${problem.detail}`), { final: answer.status !== 429 })
      }
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`)
      for await (const { id, message, retry: pause } of parse(answer.body)) {
        if (pause !== undefined) {
          retry = pause
          continue
        }
        if (message.type === 'close') {
          if (!message.reconnect) return
          break
        }
        if (message.type === 'subscribed') failures = 0
        if (message.event !== undefined && message.id !== undefined) {
          if (seen.has(message.id)) {
            cursor = id ?? cursor
            continue
          }
          seen.add(message.id)
          if (seen.size > 2048) seen.delete(seen.values().next().value) // the oldest
        }
        yield message
        if (id !== undefined) cursor = id // only now has it been handled
      }
    } catch (problem) {
      if (signal?.aborted) return
      if (problem.final) throw problem
    }
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { CREWBEAT_URL = 'http://localhost:8080', CREWBEAT_COOKIE, CREWBEAT_TICKET } = process.env
  const headers = {}
  if (CREWBEAT_COOKIE) headers.Cookie = CREWBEAT_COOKIE
  if (CREWBEAT_TICKET) headers.Authorization = `Ticket ${CREWBEAT_TICKET}`
  for await (const message of follow(CREWBEAT_URL, process.argv.slice(2), headers)) {
    console.log(JSON.stringify(message))
  }
}
