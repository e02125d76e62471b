// The small bitmap font of picture captions, drawn for this project: capitals 8 pixels high, small letters 6, digits
// all equally wide. Only glyphs and their widths; drawing them is the matter of canvas.ts.

/** Rows of pixels of a glyph, of which 8 stand on the line and 2 hang below. */
export const glyphRows = 10;
const columnsPerGlyph = 8;
const glyphsPerStrip = 14;

/** The printable ASCII characters in order, then a few more. */
const characters = `${String.fromCharCode(...Array.from({ length: 95 }, (_, i) => 32 + i))}°±·×–…→−`;

/** Strips of {@link glyphsPerStrip} glyphs in the order of {@link characters}, each {@link glyphRows} lines high. */
const drawing = `
        #       # #      # #      #      #   #   ##     #         #     #
        #       # #      # #     ####   # # #   #  #    #        #       #        #
        #       # #     #####   # #      #  #   #  #    #       #         #     # # #     #
        #                # #    # #        #     ##             #         #      ###      #
        #                # #     ###      #     # # #           #         #     # # #   #####           ####
        #               #####     # #    #  #   #  #            #         #       #       #
                         # #      # #    # # #  #  #            #         #               #
        #                # #    ####    #   #    ## #            #       #                       #
                                  #                               #     #                        #
                                                                                                #
            #    ###      #      ###     ###       #    #####    ###    #####    ###     ###
            #   #   #    ##     #   #   #   #     ##    #       #           #   #   #   #   #
           #    #   #   # #         #       #    # #    #       #           #   #   #   #   #   #        #
           #    #   #     #        #      ##    #  #    ####    ####       #     ###    #   #
          #     #   #     #       #         #   #  #        #   #   #      #    #   #    ####
          #     #   #     #      #          #   #####       #   #   #     #     #   #       #
         #      #   #     #     #       #   #      #    #   #   #   #     #     #   #       #
#        #       ###    #####   #####    ###       #     ###     ###      #      ###     ###    #        #
        #                                                                                                #
                                                                                                        #
                         ###     ###     ###    ####     ###    ###     #####   #####    ###    #   #   ###
                        #   #   #   #   #   #   #   #   #   #   #  #    #       #       #   #   #   #    #
    #           #           #   # ###   #   #   #   #   #       #   #   #       #       #       #   #    #
  ##    #####    ##        #    # # #   #   #   ####    #       #   #   ####    ####    #       #####    #
##                 ##     #     # # #   #####   #   #   #       #   #   #       #       #  ##   #   #    #
  ##    #####    ##       #     # ##    #   #   #   #   #       #   #   #       #       #   #   #   #    #
    #           #               #       #   #   #   #   #   #   #  #    #       #       #   #   #   #    #
                          #      ####   #   #   ####     ###    ###     #####   #        ###    #   #   ###


   #    #   #   #       #     # #   #    ###    ####     ###    ####     ###    #####   #   #   #   #   #     #
   #    #  #    #       ##   ## #   #   #   #   #   #   #   #   #   #   #   #     #     #   #   #   #   #     #
   #    # #     #       # # # # ##  #   #   #   #   #   #   #   #   #   #         #     #   #   #   #   #     #
   #    ##      #       #  #  # # # #   #   #   #   #   #   #   #   #    ##       #     #   #   #   #   #  #  #
   #    ##      #       #  #  # #  ##   #   #   ####    #   #   ####       #      #     #   #    # #    #  #  #
   #    # #     #       #     # #   #   #   #   #       # # #   # #         #     #     #   #    # #    #  #  #
#  #    #  #    #       #     # #   #   #   #   #       #  #    #  #    #   #     #     #   #     #     #  #  #
 ##     #   #   #####   #     # #   #    ###    #        ## #   #   #    ###      #      ###      #      ## ##


#   #   #   #   #####   ###     #       ###       #             #               #                   #
#   #   #   #       #   #       #         #      # #             #              #                   #
 # #     # #       #    #        #        #     #   #                    ###    ####     ###     ####    ###
  #       #       #     #        #        #                                 #   #   #   #   #   #   #   #   #
  #       #       #     #         #       #                              ####   #   #   #       #   #   #####
 # #      #      #      #         #       #                             #   #   #   #   #       #   #   #
#   #     #     #       #          #      #                             #   #   #   #   #   #   #   #   #
#   #     #     #####   #          #      #                              ####   ####     ###     ####    ####
                        ###         #   ###             #####

  ##            #        #         #    #       ##
 #              #                       #        #
####     ####   ####    ##        ##    #  #     #      ### ##  ####     ###    ####     ####   # ##     ####
 #      #   #   #   #    #         #    # #      #      #  #  # #   #   #   #   #   #   #   #   ##  #   #
 #      #   #   #   #    #         #    ##       #      #  #  # #   #   #   #   #   #   #   #   #        ##
 #      #   #   #   #    #         #    # #      #      #  #  # #   #   #   #   #   #   #   #   #          #
 #      #   #   #   #    #         #    #  #     #      #  #  # #   #   #   #   #   #   #   #   #           #
 #       ####   #   #   ###        #    #   #   ###     #  #  # #   #    ###    ####     ####   #       ####
            #                   #  #                                            #           #
         ###                     ##                                             #           #
 #                                                        ##    #       ##               #
 #                                                       #      #         #             # #       #
####    #   #   #   #   #     # #   #   #   #   #####    #      #         #              #        #
 #      #   #   #   #   #     #  # #    #   #      #     #      #         #      #  #           #####
 #      #   #    # #    #  #  #   #     #   #     #     #       #          #    # # #             #     #
 #      #   #    # #    #  #  #   #     #   #    #       #      #         #     #  #              #
 #      #   #     #     #  #  #  # #    #   #   #        #      #         #
  ##     ####     #      ## ##  #   #    ####   #####    #      #         #                     #####
                                            #             ##    #       ##
                                         ###                    #


#   #                     #
 # #                       #
  #     #####           #####   #####
 # #                       #
#   #                     #
                # # #


`;

/** `rows[y][x]` says whether the pixel is inked; `width` is up to the last inked column. */
export interface Glyph {
  readonly width: number;
  readonly rows: readonly (readonly boolean[])[];
}

const glyphs = new Map<string, Glyph>();
const lines = drawing.split("\n").slice(1);
[...characters].forEach((character, index) => {
  const top = Math.floor(index / glyphsPerStrip) * glyphRows;
  const left = (index % glyphsPerStrip) * columnsPerGlyph;
  const cut = lines.slice(top, top + glyphRows).map((line) => line.slice(left, left + columnsPerGlyph).trimEnd());
  const width = character === " " ? 3 : Math.max(...cut.map((row) => row.length));
  glyphs.set(character, { width, rows: cut.map((row) => Array.from(row, (pixel) => pixel === "#")) });
});

/** Stands for what the font does not have. */
const missing = glyphs.get("?")!;

/** The glyph of a character; a question mark for one that the font does not have. */
export function glyphOf(character: string): Glyph {
  return glyphs.get(character) ?? missing;
}
