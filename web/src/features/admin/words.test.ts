import { describe, expect, it } from 'vitest'
import { bytes, millis, percent, span } from './words'

describe('figures for people', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [16 * 1024 ** 2, '16.0 MiB'],
    [3 * 1024 ** 3, '3.00 GiB'],
  ])('%d bytes are %s', (n, text) => expect(bytes(n)).toBe(text))

  it.each([
    [0, '0 µs'],
    [250_000, '250 µs'],
    [12_400_000, '12 ms'],
    [1_500_000_000, '1.5 s'],
    [300_000_000_000, '5 min'],
    [3 * 3600e9, '3 h'],
  ])('%d ns are %s', (ns, text) => expect(span(ns)).toBe(text))

  it.each([
    [0.0421, '0.04 ms'],
    [99.5, '99.50 ms'],
    [250, '250 ms'],
    [12_000, '12.0 s'],
  ])('%d ms are %s', (ms, text) => expect(millis(ms)).toBe(text))

  it('a part of nothing is no percentage', () => {
    expect(percent(0, 0)).toBe('–')
    expect(percent(1, 3)).toBe('33.3 %')
  })
})
