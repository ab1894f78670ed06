// theme.js - light, dark, or as the system says.
import { byId, icon } from './dom.js';
import { recall, remember } from './keep.js';

export function startTheme() {
  const system = window.matchMedia('(prefers-color-scheme: dark)');
  let chosen = recall('theme', '');
  const apply = () => {
    const dark = chosen ? chosen === 'dark' : system.matches;
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
    byId('theme').replaceChildren(icon(dark ? 'sun' : 'moon'));
    byId('theme').setAttribute('aria-label', dark ? 'Light colours' : 'Dark colours');
    byId('theme').title = dark ? 'Light colours' : 'Dark colours';
  };
  byId('theme').addEventListener('click', () => {
    chosen = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
    remember('theme', chosen);
    apply();
  });
  system.addEventListener('change', apply);
  apply();
}
