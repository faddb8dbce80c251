import { context, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BatchSpanProcessor, StackContextManager, WebTracerProvider } from '@opentelemetry/sdk-trace-web'
import { instrument } from '@/api/client'
import type { PageLive } from '@/realtime'
import { onScreen } from './beacon'

/**
 * Makes a span of every request of the page, and of every event it shows, and
 * sends them to the server it came from. With the server's own spans they are
 * one trace, from a tick here to a team-mate's screen.
 */
export function startTracing(realtime: PageLive): void {
  const provider = new WebTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'crewbeat-web' }),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: '/v1/traces' }), { scheduledDelayMillis: 1000 })],
  })
  provider.register({ contextManager: new StackContextManager() })
  const tracer = trace.getTracer('crewbeat-web')

  instrument(async (request, send) => {
    const path = new URL(request.url).pathname
    // The poll for the banner would only drown what people do.
    if (path === '/api/health') return send(request)
    const route = template(path)
    const span = tracer.startSpan(`${request.method} ${route}`, {
      kind: SpanKind.CLIENT,
      attributes: { 'http.request.method': request.method, 'url.template': route, 'server.address': location.hostname },
    })
    const carrier: Record<string, string> = {}
    propagation.inject(trace.setSpan(context.active(), span), carrier)
    for (const [name, value] of Object.entries(carrier)) request.headers.set(name, value)
    try {
      const response = await send(request)
      span.setAttribute('http.response.status_code', response.status)
      if (response.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
      return response
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: 'unreachable' })
      throw error
    } finally {
      span.end()
    }
  })

  realtime.onShown((event) => {
    if (!event.trace) return
    const from = propagation.extract(ROOT_CONTEXT, { traceparent: event.trace })
    const happened = Date.parse(event.timestamp)
    const span = tracer.startSpan(
      `show ${event.event}`,
      {
        kind: SpanKind.CONSUMER,
        startTime: event.received,
        attributes: {
          'messaging.system': 'crewbeat',
          'messaging.destination.template': event.channel.replace(/:[^:]+:/, ':{id}:'),
          ...(Number.isFinite(happened) ? { 'crewbeat.delivery_ms': event.received - happened } : {}),
        },
      },
      from,
    )
    onScreen(
      (at) => span.end(at + event.skew),
      () => span.end(Date.now() + event.skew),
    )
  })
}

/** The path without the ids in it: those of people have no place in a span's name. */
export function template(path: string): string {
  return path.replace(/\/[0-9a-f]{8}-[0-9a-f-]{27}(?=\/|$)/g, '/{id}').replace(/\/\d{4}-\d{2}-\d{2}(?=\/|$)/g, '/{day}')
}
