import { type InfiniteData, useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import { activityChannel, type ActivityPage, activityQuery } from '@/api/teams'
import type { Activity } from '@/api/types'
import { type Event, useChannel } from '@/realtime'

type Feed = InfiniteData<ActivityPage, string>

/** What has come in while the feed was looked at. */
export type News = { ids: ReadonlySet<string>; /** read out politely */ said: string }

/** Keeps a team's feed and members up to date, from the position the feed was read at. */
export function useLiveTeam(teamId: string, position: string | undefined | null): News {
  const queryClient = useQueryClient()
  const [news, setNews] = useState<News>({ ids: new Set(), said: '' })
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  useEffect(() => () => clearTimeout(timer.current), [])
  const feedKey = activityQuery(teamId).queryKey

  useChannel(activityChannel(teamId), position, {
    onReset: () => void queryClient.invalidateQueries({ queryKey: ['teams'] }),
    onEvent: (event) => {
      if (event.event === 'member_joined' || event.event === 'member_left') {
        void queryClient.invalidateQueries({ queryKey: ['teams'] })
        if (event.event === 'member_joined') setNews((n) => ({ ...n, said: `${text(event.data.user_name)} joined the team` }))
        return
      }
      const came = completed(event)
      queryClient.setQueryData<Feed>(feedKey, (feed) => feed && (came ? withLine(feed, came) : withoutLine(feed, event)))
      if (came) setNews((n) => ({ ids: new Set(n.ids).add(came.id), said: `${came.user_name} ticked ${came.habit_name}` }))
      // An answer on its way may have been read before this event: ask again.
      if (queryClient.isFetching({ queryKey: feedKey }) > 0) {
        timer.current ??= setTimeout(() => {
          timer.current = undefined
          void queryClient.invalidateQueries({ queryKey: feedKey })
        }, 500)
      }
    },
  })
  return news
}

function completed(event: Event): Activity | undefined {
  if (event.event !== 'member_habit_completed') return undefined
  const d = event.data
  return {
    id: text(d.activity_id) || event.id,
    user_id: text(d.user_id),
    user_name: text(d.user_name),
    habit_id: text(d.habit_id),
    habit_name: text(d.habit_name),
    day: text(d.day),
    at: text(d.completed_at) || event.timestamp,
  }
}

/** The feed with a line on top, once. */
export function withLine(feed: Feed, line: Activity): Feed {
  const [first, ...rest] = feed.pages
  if (!first || feed.pages.some((p) => p.items.some((i) => i.id === line.id))) return feed
  return { ...feed, pages: [{ ...first, items: [line, ...first.items] }, ...rest] }
}

/** The feed without what was taken back. */
export function withoutLine(feed: Feed, event: Event): Feed {
  if (event.event !== 'member_habit_retracted') return feed
  const { activity_id, habit_id, day } = event.data
  const gone = (i: Activity) => i.id === activity_id || (i.habit_id === habit_id && i.day === day)
  return { ...feed, pages: feed.pages.map((p) => ({ ...p, items: p.items.filter((i) => !gone(i)) })) }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
