import { queryOptions } from '@tanstack/react-query'
import { api, body } from './client'
import type { Health } from './types'

/** How the server is. Asked more often while it is not well. */
export const healthQuery = queryOptions({
  queryKey: ['health'],
  queryFn: ({ signal }): Promise<Health> => body(api.GET('/api/health', { signal })),
  refetchInterval: (query) => (query.state.data?.status === 'ok' && query.state.status === 'success' ? 30_000 : 5_000),
  retry: false,
})
