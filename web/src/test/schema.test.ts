// @vitest-environment node
import { readFileSync } from 'node:fs'
import openapiTS, { astToString, COMMENT_HEADER } from 'openapi-typescript'
import { expect, it } from 'vitest'

it('the client is made from the API’s newest document (else: npm run gen)', async () => {
  const ast = await openapiTS(new URL('../../../services/api/openapi.json', import.meta.url), { defaultNonNullable: false })
  const kept = readFileSync(new URL('../api/schema.d.ts', import.meta.url), 'utf8')
  expect(kept === COMMENT_HEADER + astToString(ast)).toBe(true)
}, 20_000)
