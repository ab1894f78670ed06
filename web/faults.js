// faults.js - an error of the server, taken to the place it speaks of: a region's card, a setting, or a notice.
import { SCENE_NODE } from './workflow.js';

/** "region 2 (house): cfg: ..." as {region: 2, key: 'cfg', text}. */
export function readFault(message) {
  let text = String(message).trim();
  let region = 0;
  const at = /\bregion (\d+)(?: \([^)]*\))?:?\s*/.exec(text);
  if (at) {
    region = Number(at[1]);
    text = text.slice(at.index + at[0].length) || text;
  }
  const named = /(?:^|[:'"\s])([a-z][a-z_0-9]*): /.exec(text);
  const key = named ? named[1] : /\bhas no prompt\b/.test(text) ? 'prompt' : /\bmask|box\b/.test(text) ? 'mask' : '';
  if (named && named.index === 0) text = text.slice(named[0].length);
  return { region, key, text: text.charAt(0).toUpperCase() + text.slice(1) };
}

/** Every message of a refused job (the body of POST /prompt's 400), as texts. */
export function messagesOf(body) {
  const out = [];
  for (const node of Object.values((body && body.node_errors) || {})) {
    for (const error of node.errors || []) {
      const input = (error.extra_info || {}).input_name;
      const detail = error.details || error.message;
      out.push(node.class_type === SCENE_NODE && input && input !== 'scene' && !String(detail).startsWith(input) ? `${input}: ${detail}` : detail);
    }
  }
  if (!out.length && body && body.error) out.push([body.error.message, body.error.details].filter(Boolean).join(': '));
  return out;
}

/** Shows messages where they belong. `taking` are the regions of the job, in its order. */
export function showFaults(messages, taking, cards, settings, notice) {
  for (const message of messages) {
    const fault = readFault(message);
    const region = fault.region ? taking[fault.region - 1] : null;
    if (region) cards.fault(region, fault.key, fault.text);
    else if (!fault.key || !settings.fault(fault.key === 'height' ? 'width' : fault.key, fault.text)) notice(message, 'error');
  }
}
