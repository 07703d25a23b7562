// The options that mirror settings, from the engine's table: their checks' table for lib/settings.js and their typings.
//
//   node scripts/settings.mjs      writes both files; needs a built addon
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root } from './shared.mjs'

const note = '// Generated from the table of settings in crates/engine by scripts/settings.mjs.'

/** Paths and texts of the generated files. */
export function settingsFiles() {
  const settings = createRequire(import.meta.url)(join(root, 'binding.js')).settings()
  return [
    ['lib/settings-table.js', table(settings)],
    ['lib/settings.d.ts', typings(settings)],
  ]
}

function table(settings) {
  const lines = settings
    .filter(({ kind }) => kind !== 'secret')
    .map(({ key, kind, max }) => `  ${key}: { kind: '${kind}'${max === null ? '' : `, max: ${max}`} },`)
  return `'use strict'\n\n${note}\n\nmodule.exports = {\n${lines.join('\n')}\n}\n`
}

function typings(settings) {
  const members = settings.map((setting) => `${comment(setting)}\n  ${setting.key}?: ${type(setting)}`)
  return `${note}
import type { Duration } from './options.js'

/**
 * The settings, one option each. What is not given comes from the environment, then from the configuration files, then
 * from the defaults named here.
 */
export interface VastSettings {
${members.join('\n')}
}
`
}

function comment({ help, default: fallback, unit, env }) {
  const facts = [`${help}.`]
  if (fallback) facts.push(`Default \`${fallback}\`${unit ? ` ${unit}` : ''}.`)
  if (env.length) facts.push(`Environment: ${env.map((name) => `\`${name}\``).join(', ')}.`)
  return `  /** ${facts.join(' ')} */`
}

function type({ kind, words }) {
  if (kind === 'word') return words.map((word) => `'${word}'`).join(' | ')
  const types = {
    count: 'number',
    number: 'number',
    duration: 'Duration',
    switch: 'boolean',
    list: 'string | readonly string[]',
    ports: 'string | number | readonly (string | number)[]',
  }
  return types[kind] ?? 'string'
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, text] of settingsFiles()) writeFileSync(join(root, path), text)
}
