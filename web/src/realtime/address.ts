/** Where events come from: the server of the page. */
export function address(): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/rt/v1/ws`
}
