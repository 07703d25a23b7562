'use strict'

const { invalidArgument } = require('./error.js')
const table = require('./settings-table.js')

const show = (value) => (typeof value === 'string' ? JSON.stringify(value) : String(value))

function wrong(name, what, value) {
  const got = value === null ? 'null' : typeof value === 'number' || typeof value === 'string' ? show(value) : `a ${typeof value}`
  return invalidArgument(`option \`${name}\` must be ${what}, not ${got}`, { option: name })
}

/** Text without NUL. */
function text(name, value) {
  if (typeof value !== 'string' || value.includes('\0')) throw wrong(name, 'a string', value)
  return value
}

/** A whole number of zero or more; also what the addon would otherwise wrap or cut. */
function whole(name, value) {
  if (!Number.isSafeInteger(value) || value < 0) throw wrong(name, 'a whole number of zero or more', value)
  return String(value)
}

/** A number from zero to a limit. */
const number =
  (max = Infinity) =>
  (name, value) => {
    if (typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= max) return String(value)
    throw wrong(name, max === Infinity ? 'a number of zero or more' : `a number from 0 to ${max}`, value)
  }

/** Whole seconds, or text like `90m` or `1h30m`, which the engine reads. */
function duration(name, value) {
  if (typeof value === 'string') return text(name, value)
  if (!Number.isSafeInteger(value) || value < 0) {
    throw wrong(name, 'a whole number of seconds or a duration such as "90m"', value)
  }
  return `${value}s`
}

function toggle(name, value) {
  if (typeof value !== 'boolean') throw wrong(name, 'true or false', value)
  return String(value)
}

/** Words, or text with commas between them. */
function list(name, value) {
  if (!Array.isArray(value)) return text(name, value)
  for (const [index, item] of value.entries()) {
    if (text(`${name}[${index}]`, item).includes(',')) throw wrong(`${name}[${index}]`, 'a word without a comma', item)
  }
  return value.join(',')
}

/** Ports, as numbers or text: one, several, or text with commas between them. */
function ports(name, value) {
  const port = (each, one) => (typeof one === 'number' ? whole(each, one) : text(each, one))
  return Array.isArray(value) ? list(name, value.map((one, index) => port(`${name}[${index}]`, one))) : port(name, value)
}

/** A release action; the engine knows the words, of which none is empty. */
function action(name, value) {
  if (text(name, value).trim() === '') throw wrong(name, 'a release action', value)
  return value
}

/** An array of texts, none empty. */
function words(name, value) {
  if (!Array.isArray(value)) throw wrong(name, 'an array of strings', value)
  for (const [index, item] of value.entries()) {
    if (text(`${name}[${index}]`, item).trim() === '') throw wrong(`${name}[${index}]`, 'a string with something in it', item)
  }
  return [...value]
}

/** One of these words. */
const oneOf =
  (...words) =>
  (name, value) => {
    if (!words.includes(value)) throw wrong(name, `one of ${words.map(show).join(', ')}`, value)
    return value
  }

function check({ kind, max }) {
  const checks = { count: whole, duration, switch: toggle, list, ports, number: number(max) }
  return checks[kind] ?? text
}

/** Each setting's check; the values become text, as flags are, and what the text says is the engine's to judge. */
const settings = Object.fromEntries(Object.entries(table).map(([key, row]) => [key, check(row)]))

module.exports = { settings, text, words, oneOf, whole, duration, action, wrong }
