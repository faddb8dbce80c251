export { RealtimeContext, useChannel, useRealtime, useRealtimeStatus } from './hooks'
export type { Event } from './protocol'
export { Realtime, type Status } from './socket'
